"""Sentiment of a text: positive or negative, by MiniLM with own weights or by a user's classifier.

The embedded default knows two classes. There is no neutral one: the sentences it was trained on (SST-2) hold
none, so a band of middling scores would be an invention; read `score` instead.
"""

from collections.abc import Callable, Sequence
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
from models.media.text import decode_text
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
from models.types import Finding, LoadOptions, ModelInfo, Outcome, Payload, Prepared, Unit

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

Scores = NDArray[np.float32]  # (classes,), each in 0..1


@dataclass(frozen=True, slots=True)
class _Classifier:
    """What differs between default and user's checkpoint. `score`: ids, mask (B, T) -> (B, classes) fp32."""

    score: Callable[[Tensor, Tensor], Tensor]
    tokenizer: Tokenizer
    pad_id: int
    classes: tuple[str, ...]
    model: ModelInfo


class Sentiment:
    """The task; see `models.types.Task`. A unit is one text's token ids (T,) int64, its output `Scores`."""

    name = "sentiment"
    # Padded tokens. Enough to fill a core; the planner's window then pads 5 % of the work on a mixed feed.
    batch_cost = 2048
    max_units = 256

    def __init__(self, classifier: _Classifier, device: str) -> None:
        self.model = classifier.model
        self._classifier = classifier
        self._device = device

    @classmethod
    def load(cls, options: LoadOptions) -> "Sentiment":
        """The embedded default, or the checkpoint in `options.folder`. Raises WeightsMismatch."""
        classifier = _embedded(options) if options.folder is None else _user(options, options.folder)
        return cls(classifier, options.device)

    @classmethod
    def accepts(cls, media_type: str) -> bool:
        """Plain text, whatever its parameters; the encoding is UTF-8 in any case."""
        return media_type.partition(";")[0].strip().lower() == "text/plain"

    def prepare(self, payload: Payload) -> Prepared:
        """Raises BadInput: too_large, undecodable, empty."""
        tokens = tokenize(self._classifier.tokenizer, decode_text(payload.data))
        return Prepared((Unit(len(tokens.ids), tokens.ids),), context=tokens.truncated)

    def forward(self, units: Sequence[Unit]) -> list[Scores]:
        """Scores of each text, in order."""
        ids, mask = collate(units, self._classifier.pad_id, self._device)
        return list(self._classifier.score(ids, mask).cpu().numpy())

    def finish(self, prepared: Prepared, outputs: Sequence[Scores]) -> Outcome:
        """One finding: the likeliest class, all scores, tokens read, and whether text was cut off."""
        scores = dict(zip(self._classifier.classes, map(float, outputs[0]), strict=True))
        value = max(scores, key=lambda name: scores[name])
        detail = {"truncated": prepared.context, "tokens": prepared.units[0].length}
        return Outcome((Finding(self.name, value, score=scores[value], scores=scores, detail=detail),))

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
    return _Classifier(score, load_minilm_tokenizer(MAX_TOKENS), PAD_ID, CLASSES, model)


def _user(options: LoadOptions, folder: Path) -> _Classifier:
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
    )


def _class_names(folder: Path, config: Any) -> tuple[str, ...]:
    """Lower-case names by index. Raises WeightsMismatch unless there are two or more different ones."""
    names = tuple(str(config.id2label[index]).lower() for index in sorted(config.id2label))
    if len(names) < 2 or len(set(names)) < len(names):
        raise WeightsMismatch(
            f"{folder}/config.json names the classes {names}; give two or more different ones"
        )
    return names
