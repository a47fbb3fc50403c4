"""Sentiment of a text: positive or negative, by own weights or by a user's classifier.

Embedded are MiniLM with LoRA weights for English and a classifier of characters for Chinese; a user's checkpoint
takes the place of both, or of those whose languages the option `languages` names. A text in a language that none
of them reads gets `unsupported_language` and no score.

The embedded ones know two classes. There is no neutral one: the sentences it was trained on (SST-2) hold
none, so a band of middling scores would be an invention; read `score` instead.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from models.inference.lora import adapter_shapes, merge
from models.inference.pretrained import placed
from models.inference.weights import load_checked
from models.media.language import Language
from models.networks.ngrams import PLACES, NgramClassifier
from models.networks.precision import dtype_name, torch_dtype
from models.tasks.classifier import ClassifyText, Scores, TextClassifier, user_classifier
from models.tasks.minilm import (
    LAYERS,
    MAX_TOKENS,
    PAD_ID,
    WIDTH,
    load_minilm,
    load_minilm_tokenizer,
    masked_mean,
)
from models.tasks.texts import languages_option, read_text
from models.types import Finding, LoadOptions, ModelInfo, Outcome, Payload, Prepared

NAME = "minilm-sentiment-sst2"
CLASSES = ("negative", "positive")
RANK, ALPHA = 8, 16.0
TARGETS = tuple(
    f"encoder.layer.{layer}.{linear}"
    for layer in range(LAYERS)
    for linear in (
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
    )
)
WEIGHTS = Path(__file__).parent.parent / "weights" / "sentiment-sst2"
CHINESE_WEIGHTS = WEIGHTS.parent / "sentiment-zh"


@dataclass(frozen=True, slots=True)
class _Characters:
    """A classifier that needs no device: it scores while a text is prepared."""

    score: Callable[[str], float]
    model: ModelInfo


@dataclass(frozen=True, slots=True)
class _Scored:
    """A text that is scored already: by which model, and the probability of `positive`."""

    language: Language
    by: _Characters
    positive: float


class Sentiment(ClassifyText):
    """The task; see `models.types.Task`."""

    name = "sentiment"

    def __init__(
        self, classifier: TextClassifier, device: str, characters: Mapping[str, _Characters] | None = None
    ) -> None:
        super().__init__(classifier, device)
        self._characters = dict(characters or {})
        own = classifier.languages
        self._reads = None if own is None else own | self._characters.keys()

    @classmethod
    def load(cls, options: LoadOptions) -> "Sentiment":
        """The embedded default, or the checkpoint in `options.folder`; its option `languages` says what that reads.

        Option `chinese`: a folder of weights by `headrace train characters`. Raises WeightsMismatch, ValueError.
        """
        languages = languages_option(cls.name, options)
        chinese = Path(str(options.options.get("chinese", CHINESE_WEIGHTS)))
        if options.folder is None:
            return cls(_embedded(options), options.device, {"zh": _chinese(chinese)})
        classifier = user_classifier(options, options.folder, languages)
        others = {} if languages is None or "zh" in languages else {"zh": _chinese(chinese)}
        return cls(classifier, options.device, others)

    def prepare(self, payload: Payload) -> Prepared:
        """No unit for what needs no network. Raises BadInput: too_large, undecodable, empty."""
        read = read_text(payload, self._reads)
        by = self._characters.get(read.language.code or "")
        if by is not None and read.language.letters:
            return Prepared((), _Scored(read.language, by, by.score(read.text)))
        return self.prepare_text(read)

    def finish(self, prepared: Prepared, outputs: Sequence[Scores]) -> Outcome:
        """As `ClassifyText.finish`."""
        scored = prepared.context
        if not isinstance(scored, _Scored):
            return super().finish(prepared, outputs)
        scores = dict(zip(CLASSES, (1 - scored.positive, scored.positive), strict=True))
        value = max(scores, key=lambda name: scores[name])
        detail = {"language": scored.language.code}
        finding = Finding(self.name, value, scores[value], scores, detail={**detail}, model=scored.by.model)
        return Outcome((finding,))


def _embedded(options: LoadOptions) -> TextClassifier:
    encoder = load_minilm()
    shapes = adapter_shapes(encoder, TARGETS, RANK)
    shapes |= {"head.weight": (len(CLASSES), WIDTH), "head.bias": (len(CLASSES),)}
    tensors, info = load_checked(WEIGHTS, shapes)
    merge(encoder, TARGETS, tensors, ALPHA)
    dtype = torch_dtype(options.dtype, options.device)
    encoder = placed(encoder, options.device, dtype)
    weight, bias = (tensors[f"head.{part}"].float().to(options.device) for part in ("weight", "bias"))

    def score(ids: Tensor, mask: Tensor) -> Tensor:
        hidden = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return nn.functional.linear(masked_mean(hidden, mask), weight, bias).softmax(1)

    model = ModelInfo(info.name, info.revision, info.sha256, dtype_name(dtype))
    tokenizer = load_minilm_tokenizer(MAX_TOKENS)
    return TextClassifier(score, tokenizer, PAD_ID, CLASSES, model, frozenset({"en"}))


def _chinese(folder: Path) -> _Characters:
    tensors, info = load_checked(folder, {"weights": (PLACES,), "bias": (1,)})
    classifier = NgramClassifier(tensors["weights"].float().numpy(), float(tensors["bias"]))
    return _Characters(classifier.score, info)
