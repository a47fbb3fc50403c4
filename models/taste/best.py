"""The k best of each row of scores, exactly. NumPy alone."""

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

_BLOCK = 16  # items whose maximum stands for them in the first selection


def top_k(scores: F32, k: int) -> tuple[I32, F32]:
    """The k best columns of each row (B, I) and their scores; -inf is never taken; ties go to the lower
    index.

    Exact: the k-th best of the maxima of disjoint blocks is at most the k-th best score, so only what reaches
    it is sorted; with random scores that is little more than k items.
    """
    batch, size = scores.shape
    blocks = size // _BLOCK
    least = np.full(batch, np.finfo(np.float32).min)
    if blocks > k > 0:
        maxima = scores[:, : blocks * _BLOCK].reshape(batch, _BLOCK, blocks).max(axis=1)
        least = np.maximum(least, np.partition(maxima, blocks - k, axis=1)[:, blocks - k])
    found = np.flatnonzero(scores >= least[:, None])  # row by row, lower index first
    user = found // size
    values = scores.reshape(-1)[found]
    order = np.lexsort((-values, user))  # stable
    user, found, values = user[order], found[order], values[order]
    counts = np.bincount(user, minlength=batch)
    nth = np.arange(len(user)) - np.repeat(np.cumsum(counts) - counts, counts)
    first = nth < k
    items = np.full((batch, k), -1, np.int32)
    best = np.zeros((batch, k), np.float32)
    items[user[first], nth[first]] = found[first] % size
    best[user[first], nth[first]] = values[first]
    return items, best
