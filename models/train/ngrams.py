"""Trains a linear classifier of hashed pieces: the embedded Chinese sentiment (characters), `safety` (words).

    data       texts of two classes. Those that stand in both say nothing and are left out; repeated ones count once
    split      by the seed: of the texts a tenth to test, a tenth to develop, the rest to train
    training   Adam 1e-2 on the cross entropy, batches of 64, at most 4 epochs; the number best on the development
               tenth is kept, then trained again on train and development together; one temperature from the
               development tenth

Seeded: the same machine and torch give the same weights. Half a minute on one core for 17,000 short reviews.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.errors import BadInput
from models.inference.weights import Manifest, write_weights
from models.networks.ngrams import PLACES, places
from models.train.sentiment import bootstrap_ci95

EPOCHS = 4
BATCH_ROWS = 64
LEAST_OF_A_CLASS = 20
LEARNING_RATE = 1e-2
_SCALE = 3.0  # of the logit while training: as if the learning rate were that of longer texts

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TrainedNgrams:
    """What was written, and shares of right answers; `test` was looked at once, at the end."""

    folder: Path
    manifest: Manifest
    texts: tuple[int, int, int]  # to train, develop, test
    epochs: int
    temperature: float
    dev_accuracy: float
    test_accuracy: float
    test_ci95: tuple[float, float]
    test_by_class: tuple[float, float]
    test_scores: F64  # (N,) probabilities of the second class
    test_labels: I64  # (N,) 0 or 1


@dataclass(frozen=True, slots=True)
class _Row:
    places: NDArray[np.int32]  # half of int64's memory: a hundred thousand texts have a GB of them
    label: int


def train_ngrams(
    first: Collection[str],
    second: Collection[str],
    out: Path,
    *,
    name: str,
    revision: str,
    source: str,
    seed: int = 1,
    read: Callable[[str], I64] = places,
    weights_name: str = "weights",
) -> TrainedNgrams:
    """Train on the texts of two classes, and write fp16 weights with their manifest into the folder `out` (made if
    absent): `weights_name` (PLACES,) and "bias" (1,). `read` gives a text's places.

    Raises BadInput `empty` if a class has fewer than 20 texts.
    """
    rows = _rows(first, second, read)
    order = np.random.default_rng(seed).permutation(len(rows))
    tenth = len(rows) // 10
    test, dev, train = ([rows[at] for at in part] for part in np.split(order, [tenth, 2 * tenth]))
    tried = [(_logits(weights, bias, dev)) for weights, bias in _epochs(train, EPOCHS, seed)]
    accuracies = [float(_right(logits, dev).mean()) for logits in tried]
    epochs = int(np.argmax(accuracies)) + 1
    temperature = _temperature(tried[epochs - 1], dev)
    *_, (weights, bias) = _epochs([*train, *dev], epochs, seed)
    kept = {
        weights_name: torch.from_numpy(weights / temperature).half(),
        "bias": torch.tensor([bias / temperature]).half(),
    }
    out.mkdir(parents=True, exist_ok=True)
    manifest = write_weights(
        out, kept, name=name, revision=revision, licence="Apache-2.0", source=f"{source}, seed {seed}"
    )
    logits = _logits(kept[weights_name].double().numpy(), float(kept["bias"]), test)
    right, labels = _right(logits, test), np.array([row.label for row in test])
    return TrainedNgrams(
        folder=out,
        manifest=manifest,
        texts=(len(train), len(dev), len(test)),
        epochs=epochs,
        temperature=temperature,
        dev_accuracy=max(accuracies),
        test_accuracy=float(right.mean()),
        test_ci95=bootstrap_ci95(right, seed),
        test_by_class=(float(right[labels == 0].mean()), float(right[labels == 1].mean())),
        test_scores=1 / (1 + np.exp(-logits)),
        test_labels=labels,
    )


def _rows(first: Collection[str], second: Collection[str], read: Callable[[str], I64]) -> list[_Row]:
    classes = [{text.strip() for text in texts} - {""} for texts in (first, second)]
    both = classes[0] & classes[1]
    if min(len(texts - both) for texts in classes) < LEAST_OF_A_CLASS:
        raise BadInput("empty", f"there are fewer than {LEAST_OF_A_CLASS} texts of a class")
    return [
        _Row(read(text).astype(np.int32), label)
        for label, texts in enumerate(classes)
        for text in sorted(texts - both)
    ]


def _epochs(rows: Sequence[_Row], epochs: int, seed: int) -> Iterator[tuple[F64, float]]:
    """After each epoch the weights (PLACES,) and bias of the logit that `NgramClassifier` computes."""
    rng = np.random.default_rng(seed)
    bag = nn.EmbeddingBag(PLACES, 1, mode="sum")
    nn.init.zeros_(bag.weight)
    bias = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([bag.weight, bias], lr=LEARNING_RATE)
    for _ in range(epochs):
        order = rng.permutation(len(rows))
        for start in range(0, len(order), BATCH_ROWS):
            batch = [rows[at] for at in order[start : start + BATCH_ROWS]]
            sizes = np.array([max(1, len(row.places)) for row in batch])
            ids = torch.from_numpy(np.concatenate([row.places for row in batch]))
            lengths = [len(row.places) for row in batch]
            offsets = torch.from_numpy(np.cumsum([0, *lengths[:-1]]).astype(np.int32))
            scale = torch.from_numpy(_SCALE / np.sqrt(sizes)).float()
            logits = bag(ids, offsets)[:, 0] * scale + bias
            labels = torch.tensor([float(row.label) for row in batch])
            loss = nn.functional.binary_cross_entropy_with_logits(logits, labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        yield bag.weight.detach()[:, 0].double().numpy() * _SCALE, float(bias.detach())


def _logits(weights: F64, bias: float, rows: Sequence[_Row]) -> F64:
    return np.array([weights[row.places].sum() / max(1, len(row.places)) ** 0.5 + bias for row in rows])


def _right(logits: F64, rows: Sequence[_Row]) -> NDArray[np.bool_]:
    return np.asarray((logits > 0) == np.array([row.label == 1 for row in rows]))


def _temperature(logits: F64, rows: Sequence[_Row]) -> float:
    """The divisor of the logits that makes the labels likeliest, to a twentieth."""
    labels = torch.tensor([float(row.label) for row in rows], dtype=torch.float64)
    tried = [step / 20 for step in range(10, 101)]
    return min(
        tried,
        key=lambda t: float(
            nn.functional.binary_cross_entropy_with_logits(torch.from_numpy(logits / t), labels)
        ),
    )
