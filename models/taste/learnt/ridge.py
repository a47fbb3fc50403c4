"""Which items foretell which, all others given: item-item ridge regression in closed form (EASE). NumPy alone.

With G[i, j] the readers who had both items, and P = (G + lambda 1)^-1, the weights that best rebuild readers' sets from
each other without letting an item stand for itself are (Steck, "Embarrassingly Shallow Autoencoders", WWW 2019)

    B[j, i] = -P[j, i] / P[i, i]   (i != j),  0 else        score(i) = sum over the reader's items j of v_j B[j, i]

Counts say what is had together; B says what one item adds to the others. G is counted at every event; B is solved anew
when there are a twentieth more events than the last time, at least `at_least` more: some 60 times in 100,000 events.
Between two solutions an item may have come of which B knows nothing. A pair of items takes 8 bytes and a solution grows
with the cube of the items, so the catalogue is bounded. Where nobody may wait for it, it is solved elsewhere: of a copy
(`unsolved`), and `use` takes the solution up.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

MAX_ITEMS = 4_096  # 200 MB of G and B, 200 MB more while it is solved
LAMBDA = 150.0
_BLOCK = 256


@dataclass(frozen=True, slots=True)
class Solved:
    """What foretells what, of `items` known items: B[j, i] at (j, i)."""

    items: I64  # (K,)
    foretells: F32  # (K, K)


@dataclass(frozen=True, slots=True)
class Unsolved:
    """The counts of the items that came up; the others neither foretell nor are foretold."""

    items: I64  # (K,)
    both: F32  # (K, K)
    penalty: float

    def solved(self) -> Solved:
        """In closed form."""
        gram = self.both.astype(np.float64)
        gram[np.diag_indices_from(gram)] += self.penalty
        inverse = inverted(gram)
        inverse /= -inverse.diagonal()
        np.fill_diagonal(inverse, 0)
        return Solved(self.items, inverse.astype(np.float32))


class Ridge:
    """G and B over the first `items` of a catalogue; of others it knows nothing. A function of the events in their
    order and of when its solutions come."""

    def __init__(
        self,
        items: int,
        penalty: float = LAMBDA,
        at_least: int = 250,
        share: float = 0.05,
        apart: bool = False,
    ) -> None:
        """It is due when there are `share` more events than the last time, at least `at_least` more. `apart`: it grows
        as items come, and is solved by whoever holds it, not on the way.

        Raises ValueError beyond MAX_ITEMS, for a penalty or share that is not above 0 or an `at_least` below 1."""
        if items > MAX_ITEMS:
            raise ValueError(f"a ridge keeps items x items: {items:,} items are over {MAX_ITEMS:,}")
        if not min(penalty, share) > 0 or at_least < 1:
            raise ValueError("the penalty and the share must be above 0 and at_least 1 or more")
        self._items, self._apart = items, apart
        self._penalty, self._at_least, self._share = penalty, at_least, share
        start = min(64, items) if apart else items
        self._both: F32 = np.zeros((start, start), np.float32)
        self._foretells: F32 | None = None
        self._learnt, self._due = 0, at_least

    def learn(self, had: I32, item: int) -> None:
        """A reader who had these distinct items came to `item`, which is not one of them."""
        if item >= self._items:
            return
        had = had[had < self._items]
        self._reserve(max(item, int(had.max(initial=0))) + 1)
        self._both[item, had] += 1
        self._both[had, item] += 1
        self._both[item, item] += 1
        self._learnt += 1
        unsolved = None if self._apart else self.unsolved()
        if unsolved is not None:
            self.use(unsolved.solved())

    def scores(self, had: I32, values: F32, size: int) -> F32:
        """(size,) for distinct items (K,) that weigh so much; zeros before the first solution."""
        found = np.zeros(size, np.float32)
        if self._foretells is not None:
            known = had < len(self._foretells)
            foretold = values[known] @ self._foretells[had[known]]
            found[: len(foretold)] = foretold[:size]
        return found

    def unsolved(self) -> Unsolved | None:
        """A copy of the counts, if a solution is due; the next one then is so many events later."""
        if self._learnt < self._due:
            return None
        self._due = self._learnt + max(self._at_least, int(self._learnt * self._share))
        known = np.flatnonzero(self._both.diagonal() > 0)
        return Unsolved(known, self._both[np.ix_(known, known)], self._penalty)

    def use(self, solved: Solved) -> None:
        """From now on this is what foretells what."""
        found = np.zeros_like(self._both)
        found[np.ix_(solved.items, solved.items)] = solved.foretells
        self._foretells = found

    def bytes_used(self) -> int:
        """Bytes of both tables."""
        return self._both.nbytes + (0 if self._foretells is None else self._foretells.nbytes)

    def _reserve(self, items: int) -> None:
        size = len(self._both)
        if items > size:
            both = np.zeros((min(self._items, max(items, 2 * size)),) * 2, np.float32)
            both[:size, :size] = self._both
            self._both = both


def inverted(matrix: F64) -> F64:
    """Inverse (n, n) of a symmetric positive definite matrix, by halves: products of matrices, half the work of a
    general inverse.

        [A  B ]^-1   [A^-1 + W S^-1 W'   -W S^-1]
        [B' D ]    = [-(W S^-1)'           S^-1 ]      W = A^-1 B,  S = D - B' W
    """
    if len(matrix) <= _BLOCK:
        whole: F64 = np.linalg.inv(matrix).astype(np.float64, copy=False)
        return whole
    half = len(matrix) // 2
    first, across = inverted(matrix[:half, :half]), matrix[:half, half:]
    towards = first @ across
    second = inverted(matrix[half:, half:] - across.T @ towards)
    corner = towards @ second
    found = np.empty_like(matrix)
    found[:half, :half] = first + corner @ towards.T
    found[:half, half:], found[half:, :half] = -corner, -corner.T
    found[half:, half:] = second
    return found
