"""Trains a probe of topics: a linear softmax on the vectors of all-MiniLM-L6-v2, from a newsroom's own examples.

    data       a text and its topic each; at least two topics with four different texts each
    split      by the seed and within each topic: a fifth to test, the rest to train
    training   L-BFGS on the mean cross entropy + l2 |W|^2, l2 by five-fold cross-validation of the training part

Seeded: the same machine gives the same weights. A second for a hundred texts, mostly for their vectors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.errors import BadInput
from models.inference.weights import Manifest, write_weights
from models.tasks.embed import REVISION, vectors
from models.tasks.minilm import NAME as ENCODER
from models.tasks.topics import NONE
from models.train.sentiment import bootstrap_ci95

L2 = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
FOLDS = 5
LEAST_OF_A_TOPIC = 4

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TrainedTopics:
    """What was written, and shares of right answers; the test part was looked at once, at the end."""

    folder: Path
    manifest: Manifest
    topics: tuple[str, ...]
    texts: tuple[int, int]  # to train, test
    l2: float
    validation_accuracy: float
    test_accuracy: float
    test_ci95: tuple[float, float]


def train_topics(
    examples: Sequence[tuple[str, str]], out: Path, *, name: str, revision: str, seed: int = 1
) -> TrainedTopics:
    """Train on (text, topic) and write the probe with its manifest into the folder `out` (made if absent).

    Raises BadInput for fewer than two topics, a topic of fewer than four texts, or one that is called "none".
    """
    rows = sorted(set(examples))
    topics = tuple(sorted({topic for _, topic in rows}))
    labels = np.array([topics.index(topic) for _, topic in rows], np.int64)
    _check(topics, labels)
    found = vectors([text for text, _ in rows])
    order = np.random.default_rng(seed).permutation(len(rows))
    held_out = np.zeros(len(rows), np.bool_)
    for topic in range(len(topics)):
        of_topic = order[labels[order] == topic]
        held_out[of_topic[: max(1, len(of_topic) // 5)]] = True
    train = order[~held_out[order]]
    by_l2 = [_cross_validated(found[train], labels[train], len(topics), l2) for l2 in L2]
    best = int(np.argmax(by_l2))
    table = _fit(found[train], labels[train], len(topics), L2[best])
    right = _answers(table, found[held_out]) == labels[held_out]
    out.mkdir(parents=True, exist_ok=True)
    manifest = write_weights(
        out,
        {topic: table[at].clone() for at, topic in enumerate(topics)},
        name=name,
        revision=revision,
        licence="of the one who trained it",
        source=f"models/train/topics.py, seed {seed}, {len(train)} texts on {ENCODER} {REVISION}",
    )
    return TrainedTopics(
        folder=out,
        manifest=manifest,
        topics=topics,
        texts=(len(train), int(held_out.sum())),
        l2=L2[best],
        validation_accuracy=by_l2[best],
        test_accuracy=float(right.mean()),
        test_ci95=bootstrap_ci95(right, seed),
    )


def _check(topics: tuple[str, ...], labels: I64) -> None:
    if len(topics) < 2:
        raise BadInput("empty", "examples of two topics at least are needed")
    if NONE in topics or "" in topics:
        raise BadInput("undecodable", f"a topic cannot be called {NONE!r} or be empty")
    few = [topics[at] for at, count in enumerate(np.bincount(labels)) if count < LEAST_OF_A_TOPIC]
    if few:
        raise BadInput("empty", f"{', '.join(few[:5])}: fewer than {LEAST_OF_A_TOPIC} different texts")


def _cross_validated(found: F32, labels: I64, classes: int, l2: float) -> float:
    """Share of right answers, each text judged by a probe that has not seen it. Rows come shuffled."""
    fold = np.arange(len(labels)) % FOLDS
    right = 0
    for out in range(FOLDS):
        table = _fit(found[fold != out], labels[fold != out], classes, l2)
        right += int((_answers(table, found[fold == out]) == labels[fold == out]).sum())
    return right / len(labels)


def _fit(found: F32, labels: I64, classes: int, l2: float) -> Tensor:
    """A row (D + 1,) a class, the bias last."""
    rows = torch.from_numpy(found)
    rows = torch.cat([rows, torch.ones(len(rows), 1)], 1)
    wanted = torch.from_numpy(labels)
    table = torch.zeros(classes, rows.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([table], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = nn.functional.cross_entropy(rows @ table.T, wanted) + l2 * table[:, :-1].square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return table.detach()


def _answers(table: Tensor, found: F32) -> I64:
    weights = table.numpy()
    return np.asarray((found @ weights[:, :-1].T + weights[:, -1]).argmax(1), np.int64)
