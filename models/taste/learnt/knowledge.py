"""What readers' choices say beside the item table, one part a line: `models.taste.learnt.companions` and
`models.taste.learnt.following`, of the items and readers that a worker knows. NumPy alone.

It belongs to whoever holds it: no part of a reader's state, and no function of the item table.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.taste.alike.nearest import NearestReaders
from models.taste.learnt import companions, following
from models.taste.learnt.companions import Companions
from models.taste.learnt.following import Following
from models.taste.learnt.ridge import Ridge, Solved, Unsolved
from models.taste.readers.past import Past

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

NAMES = (*companions.NAMES, *following.NAMES)
MAX_ITEMS = 65_536  # of which something is learnt
RIDGE_ITEMS = 2_048  # of which is known what they foretell: two tables of 16 MB
RIDGE_EVENTS = 1_000  # from one solution to the next, at least
_NEAREST = 50


class Knowledge:
    """Everything above over a catalogue that grows, of item indices below MAX_ITEMS. Not thread-safe."""

    def __init__(self, ring: int = 64, max_readers: int = 100_000) -> None:
        readers = NearestReaders(ring, _NEAREST, max_readers=max_readers, max_items=MAX_ITEMS)
        self._ridge = Ridge(RIDGE_ITEMS, at_least=RIDGE_EVENTS, share=0.1, apart=True)
        self._companions = Companions(readers, ring, ridge=self._ridge)
        self._following = Following(MAX_ITEMS, max_readers)

    def learn(self, past: Past, item: int, at_ms: int) -> None:
        """A reader with this past came to `item`."""
        if not 0 < item < MAX_ITEMS:
            return
        past = _known(past)
        self._companions.learn(past, item, at_ms)
        self._following.learn(past, item, at_ms)

    def scores(self, past: Past, size: int) -> F32:
        """(len(NAMES), size) for a reader with this past, at the time of its newest event."""
        past = _known(past)
        found = np.empty((len(NAMES), size), np.float32)
        count = len(companions.NAMES)
        for nth, line in enumerate(self._companions.scores(past, size).values()):
            found[nth] = line
        found[count:] = self._following.scores(past, past.at_ms, size)
        return found

    def of_items(self, items: I64, at_ms: int) -> F32:
        """(N, len(OF_ITEM)) how new, how quiet and how common items (N,) below the last size asked for are."""
        return self._following.of_items(items, at_ms)

    def unsolved(self) -> Unsolved | None:
        """What is to be solved for `use`, if that is due: half a second for all RIDGE_ITEMS, on one core."""
        return self._ridge.unsolved()

    def use(self, solved: Solved) -> None:
        """Take up a solution."""
        self._ridge.use(solved)

    def forget(self, rows: Sequence[int]) -> None:
        """Readers who left, by row: their visits and profiles go; counts that name nobody stay."""
        for row in rows:
            self._companions.forget(row)
            self._following.forget(row)

    def bytes_used(self) -> int:
        """About."""
        return self._companions.bytes_used() + self._following.bytes_used()


def _known(past: Past) -> Past:
    """Without items that are beyond the bound."""
    if past.items.max(initial=0) < MAX_ITEMS:
        return past
    kept = past.items < MAX_ITEMS
    return Past(past.reader, past.items[kept], past.times_ms[kept])
