"""Choosing k of M candidates so that a list is more than its k best: MMR, spread, DPP, topic calibration. NumPy alone.

All are greedy: one item a step, for all readers of the batch at once. `relevance` is the score scaled to 0..1 a row, so
every list pays the same share of its best score. Where scores are log-odds of a choice, `expected` is better: likeness
is traded against chances, so a list that knows what its reader wants stays as it is, and one that does not spreads.

    MMR          theta * relevance - (1 - theta) * (largest cosine to an item of the list)
    spread       theta * relevance - (1 - theta) * (mean cosine to the items of the list)
    expected     the same; relevance is what the list can expect of the item, in per cent (`expected`)
    DPP          largest determinant of L over the list, L_ij = q_i q_j S_ij, S_ij = (1 + cos_ij) / 2, S_ii = 1,
                 q = exp(theta / (2 (1 - theta)) * relevance); by incremental Cholesky, O(M k) a step
    calibration  (1 - weight) * sum of relevance - weight * KL(p || q~), p the reader's topics, q the list's,
                 q~ = 0.99 q + 0.01 p

What was chosen then stands in the order of the scores, ten places at a time (`in_order`): who is in a list makes it
diverse, where one stands does not, and readers look at the first places most.

Carbonell, Goldstein, "The Use of MMR", SIGIR 1998; Borodin, Lee, Ye, "Max-Sum Diversification, Monotone Submodular
Functions and Dynamic Updates", PODS 2012 (spread is its greedy form); Chen, Zhang, Zhou, "Fast Greedy MAP Inference for
Determinantal Point Process", NeurIPS 2018; Steck, "Calibrated Recommendations", RecSys 2018.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.taste.lists.authors import STRETCH, Room

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

_SINGULAR = 1e-9  # what is left of an item's own length when the list says all that it says
_ALMOST = 0.01  # of p in q~: no topic of the reader has probability 0


class Aim(Protocol):
    """What a greedy choice maximises."""

    def value(self) -> F64:
        """(B, M) of taking each candidate next."""

    def take(self, columns: I64) -> None:
        """These columns (B,) were taken."""


def relevance(scores: F32, held: Bools) -> F64:
    """Scores (B, M) scaled to 0..1 over the candidates `held` of each row; 0 elsewhere, 1 where all are equal."""
    low = np.where(held, scores, np.inf).min(axis=1, initial=np.inf)[:, None]
    high = np.where(held, scores, -np.inf).max(axis=1, initial=-np.inf)[:, None]
    spread = np.where(high > low, high - low, 1).astype(np.float64)
    scaled = np.where(high > low, (scores - np.where(np.isfinite(low), low, 0)) / spread, 1.0)
    return np.where(held, scaled, 0.0)


def expected(scores: F32, held: Bools, k: int) -> F64:
    """What a list of k loses without each candidate, in per cent of a certain hit in its first place: (B, M), 0 where
    none is held. `scores` (B, M) are log-odds, best first.

    With the chances p (B, M) of the candidates, and a hit in place q (from 1) worth 1 / log2(1 + q), leaving out j lets
    all behind it move up: the sum over q >= j of (p_q - p_q+1) / log2(1 + min(q, k)).
    """
    lowered = np.where(held, scores.astype(np.float64), -np.inf)
    best = lowered.max(axis=1, initial=-np.inf, keepdims=True)
    odds = np.exp(lowered - np.where(np.isfinite(best), best, 0))
    chances = odds / np.maximum(odds.sum(axis=1, keepdims=True), 1e-300)
    place = np.minimum(np.arange(scores.shape[1]), k - 1)
    steps = chances / np.log2(place + 2)
    steps[:, :-1] -= chances[:, 1:] / np.log2(place[:-1] + 2)
    found: F64 = 100 * steps[:, ::-1].cumsum(axis=1)[:, ::-1]
    return np.where(held, found, 0.0)


def choose(aim: Aim, held: Bools, room: Room, k: int) -> I64:
    """Columns (B, k) in the order of choice, -1 where no candidate is left; ties go to the lower column."""
    batch = len(held)
    chosen = np.full((batch, k), -1, np.int64)
    filled = np.zeros(batch, np.int64)
    free = held.copy()
    everyone = np.arange(batch)
    for _ in range(min(k, held.shape[1])):
        value = np.where(free & room.open(filled), aim.value(), -np.inf)
        best = value.argmax(axis=1)
        rows = np.flatnonzero(value[everyone, best] > -np.inf)
        if not len(rows):
            break
        chosen[rows, filled[rows]] = best[rows]
        filled[rows] += 1
        free[rows, best[rows]] = False
        room.take(rows, best[rows])
        aim.take(best)
    return chosen


def in_order(chosen: I64) -> I64:
    """Chosen columns (B, k) of candidates that stand best first, -1 none, each stretch of ten places in that order: so
    what holds for the first ten, twenty, ... places, an author's room, still holds."""
    last = np.iinfo(np.int64).max
    ordered = np.where(chosen >= 0, chosen, last)
    for first in range(0, chosen.shape[1], STRETCH):
        ordered[:, first : first + STRETCH].sort(axis=1)
    return np.where(ordered < last, ordered, -1)


class Best:
    """The order of the candidates as they are."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._value = np.broadcast_to(-np.arange(shape[1], dtype=np.float64), shape)

    def value(self) -> F64:
        return self._value

    def take(self, columns: I64) -> None:
        """Nothing changes."""


class Mmr:
    """Maximal marginal relevance."""

    def __init__(self, relevant: F64, vectors: F32, theta: float) -> None:
        """`vectors` (B, M, D) of length 1, or 0 where nothing is known of an item."""
        self._relevant, self._vectors, self._theta = relevant, vectors, theta
        self._closest: F64 | None = None

    def value(self) -> F64:
        if self._closest is None:
            return self._relevant
        found: F64 = self._theta * self._relevant - (1 - self._theta) * self._closest
        return found

    def take(self, columns: I64) -> None:
        near = _cosines(self._vectors, columns)
        self._closest = near if self._closest is None else np.maximum(self._closest, near)


class Spread:
    """As MMR, by the mean cosine to the list instead of the largest: what a list's mean distance asks for."""

    def __init__(self, relevant: F64, vectors: F32, theta: float) -> None:
        """`vectors` (B, M, D) of length 1, or 0 where nothing is known of an item."""
        self._relevant, self._vectors, self._theta = relevant, vectors, theta
        self._sum: F64 = np.zeros(relevant.shape)
        self._count = 0

    def value(self) -> F64:
        if not self._count:
            return self._relevant
        found: F64 = self._theta * self._relevant - (1 - self._theta) / self._count * self._sum
        return found

    def take(self, columns: I64) -> None:
        self._sum += _cosines(self._vectors, columns)
        self._count += 1


class Dpp:
    """Determinantal point process, greedy."""

    def __init__(self, relevant: F64, vectors: F32, theta: float, k: int) -> None:
        self._vectors, self._relevant = vectors, relevant
        self._quality: F64 = np.exp(theta / (2 * (1 - theta)) * relevant)
        self._left: F64 = self._quality**2  # d_i**2, what the item adds to the determinant
        self._rows = np.zeros((*relevant.shape, k))  # (B, M, k) c_i of the Cholesky factor
        self._step = 0

    def value(self) -> F64:
        # a list that spans all that its candidates say goes on by relevance, below every determinant
        return np.where(self._left > _SINGULAR * self._quality**2, self._left, self._relevant - 2)

    def take(self, columns: I64) -> None:
        if self._step == self._rows.shape[2]:
            return
        at = np.arange(len(columns))
        own = self._left[at, columns]
        alike = (1 + _cosines(self._vectors, columns)) / 2
        alike[at, columns] = 1
        kernel = self._quality * self._quality[at, columns][:, None] * alike
        shared = np.matmul(self._rows, self._rows[at, columns][:, :, None])[:, :, 0]
        usable = own > _SINGULAR * self._quality[at, columns] ** 2
        row = np.where(usable[:, None], kernel - shared, 0) / np.sqrt(np.where(usable, own, 1))[:, None]
        self._rows[:, :, self._step] = row
        self._left -= row**2
        self._step += 1


class Calibrated:
    """The list's topics come close to the reader's."""

    def __init__(self, relevant: F64, topics: F32, wanted: F32, weight: float) -> None:
        """`topics` (B, M, T) of the candidates and `wanted` (B, T) of the reader; rows add up to 1, or to 0 where
        nothing is known."""
        self._relevant, self._topics, self._weight = relevant, topics.astype(np.float64), weight
        self._wanted = wanted.astype(np.float64)
        self._sum = np.zeros_like(self._wanted)
        self._score = np.zeros(len(wanted))
        self._count = 0

    def value(self) -> F64:
        has = (self._sum[:, None, :] + self._topics) / (self._count + 1)
        wanted = self._wanted[:, None, :]
        mixed = (1 - _ALMOST) * has + _ALMOST * wanted
        some = wanted > 0
        ratio = np.where(some, wanted, 1) / np.where(some, mixed, 1)
        away = (wanted * np.log(ratio)).sum(axis=2)
        found: F64 = (1 - self._weight) * (self._score[:, None] + self._relevant) - self._weight * away
        return found

    def take(self, columns: I64) -> None:
        at = np.arange(len(columns))
        self._sum += self._topics[at, columns]
        self._score += self._relevant[at, columns]
        self._count += 1


def _cosines(vectors: F32, columns: I64) -> F64:
    """(B, M) of every candidate to the one taken."""
    one = vectors[np.arange(len(columns)), columns]
    found: F64 = np.matmul(vectors, one[:, :, None])[:, :, 0].astype(np.float64)
    return found
