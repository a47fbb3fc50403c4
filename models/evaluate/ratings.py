"""Estimates of ratings, test then learn: root mean squared error of the user-user formula beside plain means.

    mean                    the mean of all ratings so far
    item-mean               the mean of the item's
    user-cosine by all      pred(u, i) / sum of sim(u, v) over all readers, as the classic formula has it: who did not
                            rate the item counts as 0, so that it ranks and cannot estimate
    user-cosine by raters   pred(u, i) / sum of sim(u, v) over those who rated the item
    user-nearest            the same over the nearest of its recent raters

Each event is estimated with what was known before it, and only then learnt. Who has no answer gives the mean so far.
Ratings must be above 0. NumPy alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluate.recording import Recording
from models.taste.alike.nearest import NearestReaders
from models.taste.alike.usercf import NOBODY, CosineRows, Profile, deltas, with_value

Bools = NDArray[np.bool_]
F64 = NDArray[np.float64]

NAMES = ("mean", "item-mean", "user-cosine by all", "user-cosine by raters", "user-nearest")


@dataclass(frozen=True, slots=True)
class RatingRow:
    """One way to estimate."""

    name: str
    rmse: float  # NaN where nothing was asked
    answered: float  # share of the events asked that it had an answer of its own for


class _Estimates:
    """All ways side by side; what each knows is what came before."""

    def __init__(self, items: int, ring: int, nearest: int) -> None:
        self._ring = ring
        self._profiles: dict[int, Profile] = {}
        self._values, self._raters = CosineRows(), CosineRows()
        self._readers = NearestReaders(ring, nearest, max_items=max(items, 1))
        self._sums: F64 = np.zeros(items)
        self._counts: F64 = np.zeros(items)
        self._sum = self._count = 0.0

    def of(self, user: int, item: int) -> tuple[float, ...]:
        """In the order of NAMES; NaN for no answer."""
        mine = self._profiles.get(user, NOBODY)
        score = self._values.score(mine, item)
        return (
            _mean(self._sum, self._count),
            _mean(float(self._sums[item]), float(self._counts[item])),
            _mean(score, self._raters.total(mine)),
            _mean(score, self._raters.score(mine, item)),
            self._readers.rating(mine, item, reader=user),
        )

    def learn(self, user: int, item: int, rating: float) -> None:
        before = self._profiles.get(user, NOBODY)
        after = self._profiles[user] = with_value(before, item, rating, self._ring)
        self._values.apply(deltas(before, after))
        self._raters.apply(deltas(before, after, raters=True))
        self._readers.change(user, after, item)
        self._sums[item] += rating
        self._counts[item] += 1
        self._sum += rating
        self._count += 1


def rating_errors(
    recording: Recording,
    asked: Bools,
    ring: int,
    nearest: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[RatingRow]:
    """RMSE over the events asked (n,), by NAMES. Raises ValueError for a recording without ratings."""
    if recording.ratings is None:
        raise ValueError("the recording has no ratings")
    estimates = _Estimates(len(recording.item_names), ring, nearest)
    ratings = recording.ratings.astype(np.float64)
    found = np.full((int(asked.sum()), len(NAMES)), np.nan)
    done = 0
    columns = (recording.users.tolist(), recording.items.tolist(), ratings.tolist(), asked.tolist())
    for number, (user, item, rating, ask) in enumerate(zip(*columns, strict=True)):
        if ask:
            found[done] = estimates.of(user, item)
            done += 1
        estimates.learn(user, item, rating)
        if number % 1024 == 0:
            progress(number, len(recording))
    progress(len(recording), len(recording))
    answered = ~np.isnan(found)
    errors = np.where(answered, found, found[:, :1]) - ratings[asked, None]
    with np.errstate(invalid="ignore"):
        rmse = np.sqrt((errors**2).sum(axis=0) / np.float64(done))
        shares = answered.sum(axis=0) / np.float64(done)
    return [RatingRow(name, float(rmse[place]), float(shares[place])) for place, name in enumerate(NAMES)]


def _mean(total: float, count: float) -> float:
    return total / count if count > 0 else float("nan")
