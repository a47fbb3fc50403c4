"""The k best of each row of scores, exactly. NumPy alone."""

import numpy as np
from numpy.typing import NDArray

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
    least = np.full(batch, _LOWEST)
    if blocks > k > 0:
        maxima = scores[:, : blocks * _BLOCK].reshape(batch, _BLOCK, blocks).max(axis=1)
        least = np.maximum(least, np.partition(maxima, blocks - k, axis=1)[:, blocks - k])
    found = np.flatnonzero(scores >= least[:, None])  # row by row, lower index first
    row, values = found // size, scores.reshape(-1)[found]
    return _ranked(row, (found - row * size).astype(np.int32), values, batch, k)


def k_best(items: I32, scores: F32, k: int) -> tuple[I32, F32]:
    """The k best of each row of items (B, N), each at most once, by scores (B, N), as `top_k` does."""
    batch, size = scores.shape
    least = np.full(batch, _LOWEST)
    if size > k > 0:
        least = np.maximum(least, np.partition(scores, size - k, axis=1)[:, size - k])
    row, nth = np.nonzero(scores >= least[:, None])
    return _ranked(row, items[row, nth], scores[row, nth], batch, k)


def _ranked(row: I64, items: I32, scores: F32, batch: int, k: int) -> tuple[I32, F32]:
    """(B, k) of entries given row by row."""
    order = np.lexsort((items, -scores, row))
    row, items, scores = row[order], items[order], scores[order]
    counts = np.bincount(row, minlength=batch)
    nth = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    first = nth < k
    best = np.full((batch, k), -1, np.int32)
    best_scores = np.zeros((batch, k), np.float32)
    best[row[first], nth[first]] = items[first]
    best_scores[row[first], nth[first]] = scores[first]
    return best, best_scores
