"""Topics of a text: which of a newsroom's subjects it is about.

Without training a topic is one sentence or several that say what it is about, and a text's score is how near it
lies to the nearest of them in the space of all-MiniLM-L6-v2. With a few dozen
examples a topic `headrace train topics` makes a probe of those vectors, which is better. A user's folder may hold a
trained classifier instead.

A text that is near no topic gets `none`. English, unless the folder's model reads more.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.errors import WeightsMismatch
from models.inference.weights import Checked, load_checked
from models.tasks.classifier import ClassifyText, TextClassifier, user_classifier
from models.tasks.embed import SentenceEncoder
from models.tasks.minilm import WIDTH
from models.tasks.texts import languages_option
from models.types import Finding, Json, LoadOptions, ModelInfo

NONE = "none"
LABELS: dict[str, tuple[str, ...]] = {
    "politics": ("An election, a parliament and its votes", "A government and its ministers", "A new law"),
    "world": ("War, troops and attacks abroad", "Diplomacy between countries", "Unrest and protests abroad"),
    "business": (
        "Company profits and shares",
        "Prices, jobs and the economy",
        "A bank, a merger, a takeover",
    ),
    "technology": (
        "Software, computers and the internet",
        "Chips, phones and gadgets",
        "Security of computers",
    ),
    "science": ("Scientists report a discovery", "Space, planets and rockets", "Animals, plants and fossils"),
    "sport": ("A match between two teams", "Athletes win medals", "Players, coaches and injuries"),
    "culture": ("A film, a book or a play", "A concert, a singer, an album", "An exhibition of art"),
    "health": ("A disease and its treatment", "Doctors, hospitals and patients", "Food, sleep and exercise"),
    "climate": (
        "Climate change and emissions",
        "Storms, floods and the weather forecast",
        "Wind and solar power",
    ),
    "crime": ("Police arrest a suspect", "A trial, a court and a sentence", "A robbery, a murder, a fraud"),
}
"""The default newsroom: topic -> sentences. Option `labels` replaces it."""

REVISION = "1"  # rises when scores of the same labels would change
_TEMPERATURE = 0.05  # of the softmax over cosines
_LEAST_COSINE = 0.08
_MOST_LABELS = 200


class Topics(ClassifyText):
    """The task; see `models.types.Task`."""

    name = "topics"

    def __init__(self, classifier: TextClassifier, device: str, threshold: float = 0.5) -> None:
        super().__init__(classifier, device)
        self._threshold = threshold

    @classmethod
    def load(cls, options: LoadOptions) -> "Topics":
        """Options: `labels` (topic -> a sentence or several), `probe` (a folder by `headrace train topics`),
        `least` (cosine below which a text is about none of the labels), `languages` (what the folder reads),
        `threshold` (of topics that do not exclude each other). Raises WeightsMismatch, ValueError.
        """
        given = options.options
        threshold = _number(given, "threshold", 0.5, 0.0, 1.0)
        if options.folder is not None:
            languages = languages_option(cls.name, options)
            return cls(user_classifier(options, options.folder, languages), options.device, threshold)
        if given.get("probe") is not None:
            folder = Path(str(given["probe"]))
            classifier = probe(SentenceEncoder.load(options), folder, load_checked(folder))
        else:
            least = _number(given, "least", _LEAST_COSINE, -1.0, 1.0)
            labels = labels_of(given.get("labels"))
            classifier = _zero_shot(SentenceEncoder.load(options), labels, least)
        return cls(classifier, options.device, threshold)

    def finding(self, scores: dict[str, float], detail: dict[str, Json]) -> Finding:
        """The likeliest topic; of a model whose topics do not exclude each other `detail.topics` names all."""
        best = max(scores, key=lambda name: scores[name])
        if self.classifier.several:
            above = [name for name in scores if scores[name] >= self._threshold]
            detail = {**detail, "topics": [*sorted(above, key=lambda name: -scores[name])]}
            best = best if above else NONE
        return Finding(self.name, best, scores.get(best), scores=scores, detail=detail)


def labels_of(given: Any) -> dict[str, tuple[str, ...]]:
    """Option `labels`, checked; the default newsroom if None. Raises ValueError."""
    if given is None:
        return LABELS
    if not isinstance(given, Mapping) or not 2 <= len(given) <= _MOST_LABELS:
        raise ValueError(f"topics: labels is a table of 2 to {_MOST_LABELS} topics, each with its sentences")
    found = {}
    for name, sentences in given.items():
        listed = [sentences] if isinstance(sentences, str) else sentences
        good = isinstance(listed, list | tuple) and all(
            isinstance(one, str) and one.strip() for one in listed
        )
        if name == NONE or not str(name).strip() or not good or not listed:
            raise ValueError(f"topics: label {name!r} needs a sentence or a list of them")
        found[str(name)] = tuple(listed)
    return found


def _zero_shot(
    encoder: SentenceEncoder, labels: Mapping[str, tuple[str, ...]], least: float
) -> TextClassifier:
    sentences = [sentence for ones in labels.values() for sentence in ones]
    weight = torch.from_numpy(encoder.vectors(sentences)).to(encoder.device)
    sizes = [len(ones) for ones in labels.values()]

    def logits(vectors: Tensor) -> Tensor:
        cosines = torch.split(nn.functional.linear(vectors, weight), sizes, dim=1)
        nearest = [part.amax(1) for part in cosines]
        return torch.stack([*nearest, torch.full_like(nearest[0], least)], 1) / _TEMPERATURE

    # The labels are part of the model: other sentences, other answers.
    said = "\0".join(f"{name}={sentence}" for name, ones in labels.items() for sentence in ones)
    revision = f"{encoder.model.revision}-{REVISION}-{_short_hash(f'{least}{said}')}"
    base = encoder.model
    model = ModelInfo(f"{base.name}-zero-shot", revision, base.sha256, base.dtype)
    return _on_vectors(encoder, logits, (*labels, NONE), model)


def probe(encoder: SentenceEncoder, folder: Path, read: Checked) -> TextClassifier:
    """The linear classifier of vectors that was read from a folder by `headrace train topics` or `safety`. Raises
    WeightsMismatch."""
    tensors, info = read
    wrong = sorted(name for name, tensor in tensors.items() if tuple(tensor.shape) != (WIDTH + 1,))
    if wrong or len(tensors) < 2:
        raise WeightsMismatch(
            f"{folder} is no probe of topics or of safety {wrong[:3]}; make one by headrace train topics or safety"
        )
    names = sorted(tensors)
    table = torch.stack([tensors[name].float() for name in names]).to(encoder.device)

    def logits(vectors: Tensor) -> Tensor:
        return nn.functional.linear(vectors, table[:, :-1], table[:, -1])

    model = ModelInfo(info.name, info.revision, info.sha256, encoder.model.dtype)
    return _on_vectors(encoder, logits, tuple(names), model)


def _on_vectors(
    encoder: SentenceEncoder, logits: Callable[[Tensor], Tensor], classes: tuple[str, ...], model: ModelInfo
) -> TextClassifier:
    def score(ids: Tensor, mask: Tensor) -> Tensor:
        with torch.inference_mode():
            return logits(encoder.pooled(ids, mask)).softmax(1)

    return TextClassifier(score, encoder.tokenizer, encoder.pad_id, classes, model, frozenset({"en"}))


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _number(given: Mapping[str, Json], name: str, default: float, low: float, high: float) -> float:
    value = given.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"topics: {name} is {value!r}, expected a number from {low} to {high}")
    return float(value)
