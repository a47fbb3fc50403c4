"""Texts -> one of several classes: what sentiment, topics and safety have in common.

A `TextClassifier` is a network with its tokenizer, classes and languages, embedded or from a user's folder in
Hugging Face layout (DistilBERT, BERT, RoBERTa, ...); `ClassifyText` is the task around one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from models.errors import BadInput, WeightsMismatch
from models.inference.captures import Blank
from models.inference.devices import batch_cost_on, captures_of, upload_to
from models.inference.pretrained import load_network, placed
from models.inference.tokens import USER_MAX_TOKENS, collate, load_tokenizer, positions_of, tokenize
from models.inference.weights import user_model_info
from models.media.language import Language
from models.networks.precision import dtype_name, torch_dtype
from models.tasks.texts import FOUND_TEXTS, Text, accepts_text, read_text, unsupported
from models.types import Finding, Json, LoadOptions, ModelInfo, Outcome, Payload, Prepared, Unit

Scores = NDArray[np.float32]  # (classes,), each in 0..1


@dataclass(frozen=True, slots=True)
class TextClassifier:
    """A network. `score`: ids, mask (B, T) -> (B, classes) fp32, each in 0..1.

    `languages` is what it reads, None for all; `several`: classes do not exclude each other.
    """

    score: Callable[[Tensor, Tensor], Tensor]
    tokenizer: Tokenizer
    pad_id: int
    classes: tuple[str, ...]
    model: ModelInfo
    languages: frozenset[str] | None
    several: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """What `finish` needs of `prepare`."""

    language: Language
    truncated: bool = False


class ClassifyText:
    """See `models.types.Task`. A unit is one text's token ids (T,) int64, its output `Scores`.

    A task that derives from it has a `name` and `load`, and may override what becomes of the scores.
    """

    name: str
    after = FOUND_TEXTS
    # Padded tokens. Enough to fill a core; the planner's window then pads 5 % of the work on a mixed feed.
    batch_cost = 2048
    max_units = 256

    def __init__(self, classifier: TextClassifier, device: str) -> None:
        self.model = classifier.model
        self.classifier = classifier
        self.batch_cost = batch_cost_on(device, type(self).batch_cost)
        blanks = (Blank(classifier.pad_id), Blank(0))
        self._scores = captures_of(classifier.score, blanks, device, self.batch_cost)
        self._upload = upload_to(device)
        self.captures = (self._scores,)
        self._reads = classifier.languages

    @classmethod
    def accepts(cls, media_type: str) -> bool:
        """Plain text."""
        return accepts_text(media_type)

    def prepare(self, payload: Payload) -> Prepared:
        """No unit for what the network does not read. Raises BadInput: too_large, undecodable, empty."""
        return self.prepare_text(read_text(payload, self._reads))

    def prepare_text(self, read: Text) -> Prepared:
        """The unit of a text, or none."""
        if not read.language.readable(self.classifier.languages):
            return Prepared((), Read(read.language))
        tokens = tokenize(self.classifier.tokenizer, read.text)
        unit = Unit(len(tokens.ids), tokens.ids)
        return Prepared((unit,), Read(read.language, truncated=tokens.truncated))

    def forward(self, units: Sequence[Unit]) -> list[Scores]:
        """Scores of each text, in order."""
        return list(self._scores.run(*collate(units, self.classifier.pad_id, self._upload)).cpu().numpy())

    def finish(self, prepared: Prepared, outputs: Sequence[Scores]) -> Outcome:
        """One finding: the likeliest class, all scores, language, tokens read, and whether text was cut off.

        Raises BadInput `not_finite`.
        """
        read: Read = prepared.context
        if not outputs:
            return unsupported(self.name, read.language)
        if not np.isfinite(outputs[0]).all():
            raise BadInput("not_finite", f"{self.model.name} gave scores that are not finite")
        scores = dict(zip(self.classifier.classes, map(float, outputs[0]), strict=True))
        detail: dict[str, Json] = {
            "language": read.language.code,
            "truncated": read.truncated,
            "tokens": prepared.units[0].length,
        }
        return Outcome((self.finding(scores, detail),))

    def finding(self, scores: dict[str, float], detail: dict[str, Json]) -> Finding:
        """What scores say: the likeliest class."""
        value = max(scores, key=lambda name: scores[name])
        return Finding(self.name, value, scores[value], scores=scores, detail=detail)

    def examples(self) -> Sequence[Payload]:
        """One word alone; a full batch of short texts; a batch of the longest."""
        longest = " ".join(["good"] * USER_MAX_TOKENS)
        texts = ["good", *["a fine day"] * 64, *[longest] * 8]
        return [Payload("text/plain", text.encode(), language="en") for text in texts]


def user_classifier(
    options: LoadOptions, folder: Path, languages: frozenset[str] | None = None
) -> TextClassifier:
    """The sequence classifier in a user's folder. Raises WeightsMismatch."""
    from transformers import AutoModelForSequenceClassification

    dtype = torch_dtype(options.dtype, options.device)
    network = placed(load_network(AutoModelForSequenceClassification, folder), options.device, dtype)
    config: Any = network.config
    # Classes that do not exclude each other were trained with one sigmoid each.
    several = config.problem_type == "multi_label_classification"

    def score(ids: Tensor, mask: Tensor) -> Tensor:
        logits: Tensor = network(input_ids=ids, attention_mask=mask).logits.float()
        return logits.sigmoid() if several else logits.softmax(1)

    return TextClassifier(
        score=score,
        tokenizer=load_tokenizer(folder, positions_of(folder, config)),
        pad_id=config.pad_token_id or 0,
        classes=class_names(folder, config),
        model=user_model_info(folder, dtype_name(dtype)),
        languages=languages,
        several=several,
    )


def class_names(folder: Path, config: Any) -> tuple[str, ...]:
    """Lower-case names by index. Raises WeightsMismatch unless there are two or more different ones."""
    names = tuple(str(config.id2label[index]).lower() for index in sorted(config.id2label))
    if len(names) < 2 or len(set(names)) < len(names):
        raise WeightsMismatch(
            f"{folder}/config.json names the classes {names}; give two or more different ones"
        )
    return names
