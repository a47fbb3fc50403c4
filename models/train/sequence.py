"""Trains a sequence network on recorded histories.

    data       positive events in the order of arrival, cut by `models.train.histories`
    start      vectors from pairs (`models.train.firstvectors`), bias from the logarithm of counts
    loss       cross-entropy of the next item at every place of windows of 64 events, over all items; over a sample of
               4,096 where there are more than 8,192
    training   AdamW 3e-3, weight decay 0.05, dropout 0.3, clip 1.0, windows of about 1,536 events a step; scored and
               kept is an exponential mean of the weights (Polyak, Juditsky 1992), which needs no schedule of the rate
    stop       when NDCG@10 of the validation part has not risen for 6 rounds, or the time is up: the best one is kept.
               Where nothing is held back to choose a round by: after as many rounds as are given, and the last is kept

Seeded: the same machine, torch and thread count give the same weights, unless the time ran out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.evaluate import meters
from models.evaluate.ranks import ranks
from models.evaluate.summary import GAPS
from models.sequence.attention import Attention
from models.sequence.model import WINDOW, SequenceModel, scores
from models.sequence.networks import Network
from models.sequence.recurrence import Recurrence
from models.train.firstvectors import first_vectors
from models.train.histories import TEST, TRAIN, VALIDATE, Histories, windows

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

TOP = 10
MOST_ASKED = 5_000  # events of a part that are scored
FULL_ITEMS = 8_192
SAMPLED = 4_096
_ASKED_AT_ONCE = 128
ALL_DROPOUT = 0.5  # where everything is trained on: nothing says when to stop


@dataclass(frozen=True, slots=True)
class Recipe:
    """What can be told; the default is what was measured best on MovieLens-100K's validation part."""

    kind: str = "recurrence"
    seed: int = 1
    rounds: int = 60  # at most
    patience: int = 6  # rounds without a better one
    batch: int = 1_536  # events a step, about
    rate: float = 3e-3
    weight_decay: float = 0.05
    dropout: float = 0.3
    kept: float = 0.99  # of the mean of the weights, a step
    length: float = 0.5  # of first vectors
    shuffle: float = 0.0  # places by which events change their order, see `models.train.histories.windows`


def all_rounds(shuffle: float) -> int:
    """Through data that is all trained on. What is never the same twice can be gone through more often."""
    return 28 if shuffle else 14


@dataclass(frozen=True, slots=True)
class Round:
    """One line for the person who waits."""

    number: int
    rounds: int
    loss: float
    hr: float  # of the validation part, at TOP
    ndcg: float
    best: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """Next-item accuracy at TOP over all items, ties at their mean; `own_out`: the reader's own items taken out."""

    asked: int
    hr: float
    ndcg: float
    by_gap: dict[str, tuple[int, float]] = field(
        default_factory=dict
    )  # time since the last event -> asked, HR


_NOTHING = Measured(0, float("nan"), float("nan"))


@dataclass(frozen=True, slots=True)
class Trained:
    """The best round."""

    tensors: dict[str, F32]
    model: SequenceModel
    validation: Measured  # of nothing where everything is trained on
    test: Measured | None  # None without a test part
    rounds: int  # trained
    best_round: int  # the last one where nothing chooses
    steps: int
    out_of_time: bool


def train_sequence(
    histories: Histories,
    hashes: U64,
    recipe: Recipe,
    *,
    own_out: bool = True,
    out_of_time: Callable[[], bool] = lambda: False,
    progress: Callable[[Round], None] = lambda _: None,
) -> Trained:
    """Train on a vocabulary of V items with these `hashes`. Takes torch's thread count as it finds it.

    Raises ValueError where there is nothing to train on, or nothing to validate with though something was held back.
    """
    rng = np.random.default_rng(recipe.seed)
    asked = histories.asked(VALIDATE, MOST_ASKED, rng)
    chooses = bool((histories.parts != TRAIN).any())
    if not (histories.trained() >= 2).any() or (chooses and not len(asked)):
        raise ValueError(
            "too few events: no reader has two to train on, or none has one more to validate with"
        )
    with torch.random.fork_rng(devices=[]):  # dropout draws from torch's global generator
        torch.manual_seed(recipe.seed)
        network = begun(histories, len(hashes), recipe, rng)
        fit = Fit(network, recipe)
        best, best_round, number, late = Measured(0, -1.0, -1.0), 0, 0, False
        tensors: dict[str, F32] = {}
        while number < recipe.rounds and number - best_round < recipe.patience and not late:
            loss, late = fit.round(windows(histories, WINDOW, rng, recipe.shuffle), rng, out_of_time)
            number += 1
            found = _NOTHING
            if chooses:
                found = measured(served(recipe.kind, fit.mean(), hashes), histories, asked, own_out)
            better = not chooses or found.ndcg > best.ndcg
            if better:
                best, best_round, tensors = found, number, fit.mean()
            progress(Round(number, recipe.rounds, loss, found.hr, found.ndcg, better))
    model = served(recipe.kind, tensors, hashes)
    tested = histories.asked(TEST, MOST_ASKED, rng)
    return Trained(
        tensors=tensors,
        model=model,
        validation=measured(model, histories, asked, own_out) if chooses else _NOTHING,
        test=measured(model, histories, tested, own_out) if len(tested) else None,
        rounds=number,
        best_round=best_round,
        steps=fit.steps,
        out_of_time=late,
    )


def served(kind: str, tensors: Mapping[str, F32], hashes: U64) -> SequenceModel:
    """The network as it serves."""
    return Recurrence(tensors, hashes) if kind == "recurrence" else Attention(tensors, hashes)


def measured(model: SequenceModel, histories: Histories, asked: I64, own_out: bool) -> Measured:
    """How often, and how high, the item that came was in the first TOP."""
    found = np.concatenate(
        [
            _ranks(model, histories, asked[first : first + _ASKED_AT_ONCE], own_out)
            for first in range(0, len(asked), _ASKED_AT_ONCE)
        ]
    )
    hit = meters.hits(found, TOP)
    gap_ms = np.maximum(histories.at_ms[asked] - histories.at_ms[asked - 1], 0)
    by_gap = {}
    for name, start, stop in GAPS:
        chosen = (gap_ms >= start) & (gap_ms < stop)
        by_gap[name] = (int(chosen.sum()), float(hit[chosen].mean()) if chosen.any() else float("nan"))
    return Measured(len(asked), float(hit.mean()), float(meters.discounted_gains(found, TOP).mean()), by_gap)


def _ranks(model: SequenceModel, histories: Histories, asked: I64, own_out: bool) -> F64:
    """Ranks (E,) from 1; infinite where nothing could be right: an item that the vocabulary lacks, a repeat of an own
    item where those are taken out."""
    found = scores(model, model.replay(histories.before(asked, WINDOW)))
    targets = histories.items[asked].astype(np.int64)
    hopeless = targets < 0
    if own_out:
        owner = np.searchsorted(histories.starts, asked, side="right") - 1
        for row, (start, event) in enumerate(
            zip(histories.starts[owner].tolist(), asked.tolist(), strict=True)
        ):
            had = histories.items[start:event]
            hopeless[row] |= targets[row] in had
            found[row, had[had >= 0]] = -np.inf
    return np.where(hopeless, np.inf, ranks(found, np.maximum(targets, 0), "half"))


def begun(histories: Histories, items: int, recipe: Recipe, rng: np.random.Generator) -> Network:
    """A network that knows what is popular, and what is had together."""
    network = Network(recipe.kind, items, recipe.dropout)
    had = histories.items[(histories.parts == 0) & (histories.items >= 0)]
    popular = np.log1p(np.bincount(had, minlength=items)).astype(np.float32)
    vectors = first_vectors(histories, items, network.items.embedding_dim, recipe.length, rng)
    with torch.no_grad():
        network.bias.copy_(torch.from_numpy(popular - popular.mean()))
        network.items.weight.copy_(torch.from_numpy(vectors))
    return network


class Fit:
    """A network, its optimiser, and the mean of its weights."""

    def __init__(self, network: Network, recipe: Recipe) -> None:
        self._network, self._recipe = network, recipe
        self._optimizer = torch.optim.AdamW(
            network.parameters(), lr=recipe.rate, weight_decay=recipe.weight_decay
        )
        self._mean = {name: value.detach().clone() for name, value in network.state_dict().items()}
        self.steps = 0

    def mean(self) -> dict[str, F32]:
        """The mean of the weights, as arrays of their own."""
        return {name: value.numpy().copy() for name, value in self._mean.items()}

    def round(
        self, made: NDArray[np.int32], rng: np.random.Generator, out_of_time: Callable[[], bool]
    ) -> tuple[float, bool]:
        """All windows once: the mean loss of a place, and whether the time ran out before."""
        self._network.train()
        total, places = 0.0, 0
        together = max(1, round(self._recipe.batch * len(made) / max(int((made >= 0).sum()), 1)))
        for first in range(0, len(made), together):
            if out_of_time():
                return total / max(places, 1), True
            batch = torch.from_numpy(made[first : first + together]).long()
            length = int((batch >= 0).sum(dim=1).max())
            loss, count = self._loss(batch[:, :length], rng)
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
            self._optimizer.step()
            self.steps += 1
            self._keep()
            total, places = total + float(loss.detach()) * count, places + count
        return total / max(places, 1), False

    def _keep(self) -> None:
        """At first the plain mean, later the exponential one."""
        share = 1 - min(self._recipe.kept, self.steps / (self.steps + 10))
        with torch.no_grad():
            for name, value in self._network.state_dict().items():
                self._mean[name].lerp_(value, share)

    def _loss(self, batch: Tensor, rng: np.random.Generator) -> tuple[Tensor, int]:
        given, wanted = batch[:, :-1], batch[:, 1:]
        held = wanted >= 0
        x, targets = self._network(given)[held], wanted[held]
        items = self._network.bias.shape[0]
        if items <= FULL_ITEMS:
            return functional.cross_entropy(self._network.logits(x), targets), len(targets)
        drawn = torch.from_numpy(rng.choice(items, SAMPLED, replace=False))
        own = (x * self._network.items.weight[targets]).sum(dim=1) + self._network.bias[targets]
        others = x @ self._network.items.weight[drawn].T + self._network.bias[drawn]
        others = others.masked_fill(drawn == targets[:, None], -1e9)
        logits = torch.cat([own[:, None], others], dim=1)
        return functional.cross_entropy(logits, torch.zeros(len(targets), dtype=torch.long)), len(targets)
