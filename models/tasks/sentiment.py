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
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from models.errors import WeightsMismatch
from models.inference.lora import adapter_shapes, merge
from models.inference.pretrained import load_network
from models.inference.tokens import USER_MAX_TOKENS, collate, load_tokenizer, positions_of, tokenize
from models.inference.weights import load_checked, user_model_info
from models.media.language import Language
from models.networks.ngrams import PLACES, NgramClassifier
from models.networks.precision import dtype_name, torch_dtype
from models.tasks.minilm import (
    LAYERS,
    MAX_TOKENS,
    PAD_ID,
    WIDTH,
    load_minilm,
    load_minilm_tokenizer,
    masked_mean,
)
from models.tasks.texts import accepts_text, languages_option, read_text, unsupported
from models.types import Finding, Json, LoadOptions, ModelInfo, Outcome, Payload, Prepared, Unit

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

Scores = NDArray[np.float32]  # (classes,), each in 0..1


@dataclass(frozen=True, slots=True)
class _Classifier:
    """What differs between default and user's checkpoint. `score`: ids, mask (B, T) -> (B, classes) fp32.

    `languages` is what it reads, None for all.
    """

    score: Callable[[Tensor, Tensor], Tensor]
    tokenizer: Tokenizer
    pad_id: int
    classes: tuple[str, ...]
    model: ModelInfo
    languages: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class _Characters:
    """A classifier that needs no device: it scores while a text is prepared."""

    score: Callable[[str], float]
    model: ModelInfo


@dataclass(frozen=True, slots=True)
class _Read:
    """What `finish` needs of `prepare`; `by` and `positive` if the text is scored already."""

    language: Language
    truncated: bool = False
    by: _Characters | None = None
    positive: float = 0.0


class Sentiment:
    """The task; see `models.types.Task`. A unit is one text's token ids (T,) int64, its output `Scores`."""

    name = "sentiment"
    # Padded tokens. Enough to fill a core; the planner's window then pads 5 % of the work on a mixed feed.
    batch_cost = 2048
    max_units = 256

    def __init__(
        self, classifier: _Classifier, device: str, characters: Mapping[str, _Characters] | None = None
    ) -> None:
        self.model = classifier.model
        self._classifier = classifier
        self._characters = dict(characters or {})
        self._device = device
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
        classifier = _user(options, options.folder, languages)
        others = {} if languages is None or "zh" in languages else {"zh": _chinese(chinese)}
        return cls(classifier, options.device, others)

    @classmethod
    def accepts(cls, media_type: str) -> bool:
        """Plain text."""
        return accepts_text(media_type)

    def prepare(self, payload: Payload) -> Prepared:
        """No unit for what needs no network. Raises BadInput: too_large, undecodable, empty."""
        read = read_text(payload, self._reads)
        by = self._characters.get(read.language.code or "")
        if by is not None and read.language.letters:
            return Prepared((), _Read(read.language, by=by, positive=by.score(read.text)))
        if not read.language.readable(self._classifier.languages):
            return Prepared((), _Read(read.language))
        tokens = tokenize(self._classifier.tokenizer, read.text)
        unit = Unit(len(tokens.ids), tokens.ids)
        return Prepared((unit,), _Read(read.language, truncated=tokens.truncated))

    def forward(self, units: Sequence[Unit]) -> list[Scores]:
        """Scores of each text, in order."""
        ids, mask = collate(units, self._classifier.pad_id, self._device)
        return list(self._classifier.score(ids, mask).cpu().numpy())

    def finish(self, prepared: Prepared, outputs: Sequence[Scores]) -> Outcome:
        """One finding: the likeliest class, all scores, language, tokens read, and whether text was cut off."""
        read: _Read = prepared.context
        detail: dict[str, Json] = {"language": read.language.code}
        if outputs:
            scores = dict(zip(self._classifier.classes, map(float, outputs[0]), strict=True))
            detail |= {"truncated": read.truncated, "tokens": prepared.units[0].length}
        elif read.by is not None:
            scores = dict(zip(CLASSES, (1 - read.positive, read.positive), strict=True))
        else:
            return unsupported(self.name, read.language)
        value = max(scores, key=lambda name: scores[name])
        model = read.by.model if read.by else None
        finding = Finding(self.name, value, scores[value], scores=scores, detail=detail, model=model)
        return Outcome((finding,))

    def examples(self) -> Sequence[Payload]:
        """One word alone; a full batch of short texts; a batch of the longest."""
        longest = " ".join(["good"] * USER_MAX_TOKENS)
        texts = ["good", *["a fine day"] * 64, *[longest] * 8]
        return [Payload("text/plain", text.encode()) for text in texts]


def _embedded(options: LoadOptions) -> _Classifier:
    encoder = load_minilm()
    shapes = adapter_shapes(encoder, TARGETS, RANK)
    shapes |= {"head.weight": (len(CLASSES), WIDTH), "head.bias": (len(CLASSES),)}
    tensors, info = load_checked(WEIGHTS, shapes)
    merge(encoder, TARGETS, tensors, ALPHA)
    dtype = torch_dtype(options.dtype, options.device)
    encoder.to(options.device, dtype)
    weight, bias = (tensors[f"head.{part}"].float().to(options.device) for part in ("weight", "bias"))

    def score(ids: Tensor, mask: Tensor) -> Tensor:
        hidden = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return nn.functional.linear(masked_mean(hidden, mask), weight, bias).softmax(1)

    model = ModelInfo(info.name, info.revision, info.sha256, dtype_name(dtype))
    tokenizer = load_minilm_tokenizer(MAX_TOKENS)
    return _Classifier(score, tokenizer, PAD_ID, CLASSES, model, frozenset({"en"}))


def _chinese(folder: Path) -> _Characters:
    tensors, info = load_checked(folder, {"weights": (PLACES,), "bias": (1,)})
    classifier = NgramClassifier(tensors["weights"].float().numpy(), float(tensors["bias"]))
    return _Characters(classifier.score, info)


def _user(options: LoadOptions, folder: Path, languages: frozenset[str] | None) -> _Classifier:
    network = load_network(AutoModelForSequenceClassification, folder)
    dtype = torch_dtype(options.dtype, options.device)
    network.to(options.device, dtype)
    config: Any = network.config
    # Classes that do not exclude each other were trained with one sigmoid each.
    several = config.problem_type == "multi_label_classification"

    def score(ids: Tensor, mask: Tensor) -> Tensor:
        logits: Tensor = network(input_ids=ids, attention_mask=mask).logits.float()
        return logits.sigmoid() if several else logits.softmax(1)

    return _Classifier(
        score=score,
        tokenizer=load_tokenizer(folder, positions_of(folder, config)),
        pad_id=config.pad_token_id or 0,
        classes=_class_names(folder, config),
        model=user_model_info(folder, dtype_name(dtype)),
        languages=languages,
    )


def _class_names(folder: Path, config: Any) -> tuple[str, ...]:
    """Lower-case names by index. Raises WeightsMismatch unless there are two or more different ones."""
    names = tuple(str(config.id2label[index]).lower() for index in sorted(config.id2label))
    if len(names) < 2 or len(set(names)) < len(names):
        raise WeightsMismatch(
            f"{folder}/config.json names the classes {names}; give two or more different ones"
        )
    return names
