"""The k best of each row of scores, exactly. NumPy alone."""

import numpy as np
from numpy.typing import NDArray

from models.taste.broadcast import apart

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_BLOCK = 16  # items whose maximum stands for them in the first selection
_LOWEST = np.finfo(np.float32).min


def top_k(scores: F32, k: int) -> tuple[I32, F32]:
    """The k best columns of each row (B, I) and their scores; -inf is never taken; ties go to the lower
    index.

    Exact: the k-th best of the maxima of disjoint blocks is at most the k-th best score, so only what reaches
    it is sorted; with random scores that is little more than k items.
    """
    batch, size = scores.shape
    blocks = size // _BLOCK
    if blocks > k > 0:
        maxima = np.maximum.reduce(scores[:, : blocks * _BLOCK].reshape(batch, _BLOCK, blocks), axis=1)
        maxima.sort(axis=1)  # faster than a partition of so few
        least = np.maximum(maxima[:, blocks - k, None], _LOWEST)
    else:
        least = np.full((batch, 1), _LOWEST)
    reached = np.empty(scores.shape, np.bool_)
    apart(np.greater_equal, scores, least, reached)
    found = reached.reshape(-1).nonzero()[0]  # row by row, lower index first
    row, values = found // size, scores.reshape(-1)[found]
    return _ranked(row, (found - row * size).astype(np.int32), values, batch, k)


def k_best(items: I32, scores: F32, k: int) -> tuple[I32, F32]:
    """The k best of each row of items (B, N), each at most once, by scores (B, N), as `top_k` does."""
    batch, size = scores.shape
    least = np.full(batch, _LOWEST)
    if size > k > 0:
        least = np.maximum(least, np.partition(scores, size - k, axis=1)[:, size - k])
    row, nth = np.nonzero(scores >= least[:, None])
    some = items[row, nth]
    order = np.argsort(row << 32 | some)
    return _ranked(row[order], some[order], scores[row, nth][order], batch, k)


def _ranked(row: I64, items: I32, scores: F32, batch: int, k: int) -> tuple[I32, F32]:
    """(B, k) of entries given by row and, within one, by item."""
    key = _descending(scores)
    key += row << 32
    order = key.argsort(kind="stable")
    begins = row.searchsorted(np.arange(batch + 1))
    at = begins[:-1, None] + np.arange(k)
    listed = at < begins[1:, None]
    if np.count_nonzero(listed) == listed.size:
        order = order[at]
        return items[order], scores[order]
    best = np.empty((batch, k), np.int32)
    best.fill(-1)
    best_scores = np.zeros((batch, k), np.float32)
    order = order[at[listed]]
    best[listed] = items[order]
    best_scores[listed] = scores[order]
    return best, best_scores


def _descending(scores: F32) -> I64:
    """Integers below 2**32 in size, ordered as the scores are, the largest first. One sort of integers is five times as
    fast as one by several keys."""
    bits = (np.float32(0) - scores).view(np.int32).astype(np.int64)  # -0 and 0 are one
    bits ^= (bits >> 63) & 0x7FFFFFFF
    return bits
