"""The trained heads of `safety`: what they find in English texts beside the rules, each as evidence of its own.

Embedded is a linear one on hashed words (`models.networks.ngrams`); `headrace train safety` makes others from a
newsroom's own examples, on words or on the vectors of MiniLM.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from models.errors import WeightsMismatch
from models.inference.weights import load_checked
from models.media.rules import Judged
from models.networks.ngrams import PLACES, NgramClassifier, word_places
from models.tasks.classifier import TextClassifier
from models.tasks.embed import SentenceEncoder
from models.tasks.topics import probe
from models.types import LoadOptions, ModelInfo

OK = "ok"
"""The class of a trained head for what may be shown; every other one is a kind of what may not."""
READS = frozenset({"en"})
WEIGHTS = Path(__file__).parents[1] / "weights" / "safety-words-en"
BIAS = "bias"
TRUST = 0.75
"""In the embedded head: below `block`, so that it asks people to look, and blocks only together with a rule. It knows
the quarrels of Wikipedia's editors and tweets, and not the newsroom's readers."""


@dataclass(frozen=True, slots=True)
class Words:
    """Tells one kind from what is ok, by words. `model`: whose labels these are; `trust` 0..1: what its word counts."""

    kind: str
    classifier: NgramClassifier
    model: ModelInfo
    trust: float = 1.0

    def scores(self, text: str) -> dict[str, float]:
        """The kind's probability times the trust, 0..1."""
        return {self.kind: self.trust * self.classifier.score(text)}


def head_of(options: LoadOptions) -> TextClassifier | Words | None:
    """What option `head` names: nothing (the embedded one), a folder, or false. Raises WeightsMismatch, ValueError."""
    named = options.options.get("head", str(WEIGHTS))
    if named is False:
        return None
    if not isinstance(named, str):
        raise ValueError(f"safety: head is {named!r}, expected a folder, or false for none")
    read = tensors, info = load_checked(Path(named))
    kinds = sorted(set(tensors) - {BIAS})
    if BIAS in tensors and len(kinds) == 1 and tuple(tensors[kinds[0]].shape) == (PLACES,):
        weights, bias = tensors[kinds[0]].float().numpy(), float(tensors[BIAS])
        model = ModelInfo(info.name, info.revision, info.sha256, "float32")
        trust = TRUST if Path(named) == WEIGHTS else 1.0
        return Words(kinds[0], NgramClassifier(weights, bias, word_places), model, trust)
    found = probe(SentenceEncoder.load(replace(options, folder=None)), Path(named), read)
    if OK not in found.classes:
        raise WeightsMismatch(f"{named} has no class {OK!r}; make a head by headrace train safety")
    return found


def with_learnt(judged: Judged, learnt: Mapping[str, float], review: float) -> Judged:
    """Rules and head together; the head is a reason where it alone asks for review.

    Where each asks for a review they are independent evidence, or else the higher score stands: a mild word that both
    know is no more than one word.
    """
    found = {name: score for name, score in learnt.items() if name != OK}
    scores = {}
    for name in judged.scores | found:
        rule, head = judged.scores.get(name, 0.0), found.get(name, 0.0)
        scores[name] = 1 - (1 - rule) * (1 - head) if min(rule, head) >= review else max(rule, head)
    reasons = [f"learnt: {name}" for name, score in found.items() if score >= review]
    return Judged(scores, (*judged.reasons, *reasons))
