"""Confidence intervals by bootstrap over users: one user's events hang together, so users are drawn, not events."""

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

DRAWS = 1000
_DRAWN_AT_ONCE = 1 << 22  # cells of the matrix of draws x users: 32 MB


def intervals(values: F64, users: I64, seed: int, draws: int = DRAWS, share: float = 0.95) -> tuple[F64, F64]:
    """Lower and upper bounds (M,) of the means of values (M, N) of N events of `users` (N,).

    Each draw takes as many users as there are, with replacement, and all events of each; all M means are of the same
    draws. Percentile intervals. NaN without events.
    """
    if not values.shape[1]:
        return np.full(len(values), np.nan), np.full(len(values), np.nan)
    _, owner = np.unique(users, return_inverse=True)
    counts = np.bincount(owner).astype(np.float64)
    sums = np.stack([np.bincount(owner, row) for row in values])
    table = np.concatenate([sums, counts[None]]).T  # (U, M + 1)
    size = len(counts)
    rng = np.random.default_rng(seed)
    at_once = max(1, _DRAWN_AT_ONCE // size)
    means = np.empty((draws, len(values)))
    for first in range(0, draws, at_once):
        part = slice(first, min(first + at_once, draws))
        picked = rng.integers(0, size, (part.stop - first, size))
        picked += np.arange(len(picked))[:, None] * size
        times = np.bincount(picked.reshape(-1), minlength=picked.size).reshape(picked.shape)
        totals = times.astype(np.float64) @ table
        means[part] = totals[:, :-1] / totals[:, -1:]
    low, high = np.quantile(means, ((1 - share) / 2, (1 + share) / 2), axis=0)
    return low, high
