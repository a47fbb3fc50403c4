"""What clicks on interleaved lists, or in arms, say: a figure with its interval. NumPy alone.

Readers are drawn for intervals, not clicks: one reader's clicks hang together.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluate.bootstrap import DRAWS, intervals

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Preference:
    """Which of two lists readers chose from. `value` is (wins + ties / 2) / lists - 1/2 of the first: 0 is no
    preference, 0.5 is always the first (Chapelle et al., ACM TOIS 2012)."""

    lists: int  # with a credited click
    readers: int
    first: int  # lists that gave the first more points
    second: int
    ties: int
    value: float
    low: float  # 95 %
    high: float

    @property
    def decided(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


def preference(users: I64, points: I64, seed: int = 7, draws: int = DRAWS) -> Preference:
    """From lists (L,) of `users` and their points (L, 2) for the first and second; lists without points do not count.
    NaN without any."""
    counted = points.sum(axis=1) > 0
    users, ahead = users[counted], np.sign(points[counted, 0] - points[counted, 1])
    outcome = ahead / 2.0
    low, high = intervals(outcome[None], users, seed, draws)
    return Preference(
        lists=len(users),
        readers=len(np.unique(users)),
        first=int(np.count_nonzero(ahead > 0)),
        second=int(np.count_nonzero(ahead < 0)),
        ties=int(np.count_nonzero(ahead == 0)),
        value=float(outcome.mean()) if len(users) else float("nan"),
        low=float(low[0]),
        high=float(high[0]),
    )


@dataclass(frozen=True, slots=True)
class Rate:
    """Points a list in one arm, and how they differ from the first arm's; 95 % by bootstrap over readers."""

    lists: int
    readers: int
    clicks: int
    value: float
    low: float
    high: float
    difference: float  # to the first arm; 0 for itself
    difference_low: float
    difference_high: float


def rates(users: I64, arms: I64, points: I64, count: int, seed: int = 7, draws: int = DRAWS) -> list[Rate]:
    """Of `count` arms, from lists (L,) of `users` in `arms` with their points (L,). A reader is in one arm."""
    drawn = []
    for arm in range(count):
        chosen = arms == arm
        drawn.append(_means(users[chosen], points[chosen], np.random.default_rng((seed, arm)), draws))
    found = []
    for arm, means in enumerate(drawn):
        chosen = arms == arm
        value = float(points[chosen].mean()) if chosen.any() else float("nan")
        base = float(points[arms == 0].mean()) if (arms == 0).any() else float("nan")
        low, high = _bounds(means)
        gap_low, gap_high = _bounds(means - drawn[0]) if arm else (0.0, 0.0)
        found.append(
            Rate(
                lists=int(np.count_nonzero(chosen)),
                readers=len(np.unique(users[chosen])),
                clicks=int(points[chosen].sum()),
                value=value,
                low=low,
                high=high,
                difference=value - base if arm else 0.0,
                difference_low=gap_low,
                difference_high=gap_high,
            )
        )
    return found


def mismatch(counts: I64, weights: F64, seed: int = 7, draws: int = 20_000) -> float:
    """How likely arms (K,) of these weights are to hold readers as unevenly as `counts` (K,) or more: the p-value of a
    chi-square test by simulation (never 0). Below 0.001 something else than chance has moved readers, and to compare
    the arms means nothing (Fabijan et al., "Diagnosing Sample Ratio Mismatch", KDD 2019). NaN without readers.
    """
    total = int(counts.sum())
    if not total:
        return float("nan")
    shares = weights / weights.sum()
    wanted = shares * total
    drawn = np.random.default_rng(seed).multinomial(total, shares, draws)
    apart = ((drawn - wanted) ** 2 / wanted).sum(axis=1)
    found = float(((counts - wanted) ** 2 / wanted).sum())
    return float((1 + np.count_nonzero(apart >= found - 1e-9)) / (1 + draws))


def _means(users: I64, points: I64, rng: np.random.Generator, draws: int) -> F64:
    """(draws,) means of points a list when readers are drawn anew; NaN without lists."""
    if not len(users):
        return np.full(draws, np.nan)
    _, owner = np.unique(users, return_inverse=True)
    lists, sums = np.bincount(owner).astype(np.float64), np.bincount(owner, points)
    size = len(lists)
    found = np.empty(draws)
    for draw in range(draws):
        picked = rng.integers(0, size, size)
        found[draw] = sums[picked].sum() / lists[picked].sum()
    return found


def _bounds(means: F64) -> tuple[float, float]:
    if np.isnan(means).any():
        return float("nan"), float("nan")
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)
