"""Several items of one author in a list: each further one counts less, and there is a hard limit. NumPy alone.

The k-th item of an author (k = 0 for the best) keeps (1 - F) * D**k + F of its score. Authors are int32, -1 where
unknown: such items are alone, whatever their number.
"""

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

STRETCH = 10  # places that a limit speaks of: "at most 2 of 10"


def occurrence(authors: I32) -> I64:
    """How many columns before it in its row have the same author: (B, M), 0 for an unknown one."""
    order = authors.argsort(axis=1, kind="stable")
    order += np.arange(len(authors))[:, None] * authors.shape[1]
    ordered = authors.reshape(-1)[order]
    column = np.arange(authors.shape[1])
    first = np.zeros(authors.shape, np.int64)  # where the stretch of an author begins
    first[:, 1:] = np.where(ordered[:, 1:] != ordered[:, :-1], column[1:], 0)
    np.maximum.accumulate(first, axis=1, out=first)
    nth = np.empty(authors.size, np.int64)
    nth[order] = column - first
    nth[authors.reshape(-1) < 0] = 0
    return nth.reshape(authors.shape)


def decayed(authors: I32, scores: F32, decay: float, floor: float) -> F32:
    """What each candidate (B, M), best first, keeps of its score: 1 for a score not above 0, which a smaller factor
    would raise."""
    factor = (1 - floor) * decay ** occurrence(authors) + floor
    factor[scores <= 0] = 1
    return factor.astype(np.float32)


class Room:
    """How many more items of an author a list has room for: `most` in its first ten places, twice that in twenty."""

    def __init__(self, authors: I32, most: int) -> None:
        """`authors` (B, M) of the candidates; `most` 0: no limit."""
        self._authors = authors
        self._most = most
        self._taken = np.zeros(authors.shape, np.int64)  # by candidate: items of its author in the list

    def open(self, filled: I64) -> Bools:
        """Candidates (B, M) that fit where `filled` (B,) places are taken."""
        if not self._most:
            return np.ones(self._authors.shape, np.bool_)
        limit = self._most * (filled // STRETCH + 1)
        fits: Bools = (self._authors < 0) | (self._taken < limit[:, None])
        return fits

    def take(self, rows: I64, columns: I64) -> None:
        """These candidates, one a row at most, are in the list now."""
        if self._most:
            self._taken[rows] += self._authors[rows] == self._authors[rows, columns][:, None]
