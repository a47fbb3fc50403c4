"""What readers were shown lately and did not take: not listed again for a time. NumPy alone.

A ring of the last items shown a reader, with the second each was shown at. Shown is either what stood in the reader's
last lists, or what the reader's impressions say: a list that nobody looked at then bars nothing. What is taken leaves.

None of it is part of a reader's state: what was listed depends on the item table of that moment, and a state does not
(it is a function of the reader's own events, so that a replay gives the same). A worker that takes a reader over, or
starts again, knows of nothing shown: at worst a list repeats once. 8 bytes an entry, nothing where it is off.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.taste import columns

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
Bools = NDArray[np.bool_]

LAST_S = 2**32 - 1


class Shown:
    """Columns by row of the readers: items (U, S) int32, -1 none; at_s (U, S) uint32; slot = number pushed mod S."""

    def __init__(self, lists: int, size: int, keep_s: float, whole_lists: bool = True) -> None:
        """The last `lists` lists of `size` items bar for `keep_s` seconds; 0 lists: nothing is kept. With `whole_lists`
        one list more is kept, so that the newest can be left aside (`pairs`). Raises ValueError for numbers below 0."""
        if lists < 0 or size < 1 or keep_s < 0:
            raise ValueError("lists and seconds must not be below 0, and a list holds an item")
        self._size, self._keep_s = size, keep_s
        self._bars = lists * size
        self._slots = (lists + whole_lists) * size if lists else 0
        self._items: I32 = np.full((0, self._slots), -1, np.int32)
        self._at_s: U32 = np.zeros((0, self._slots), np.uint32)
        self._pushed: I64 = np.zeros(0, np.int64)

    def __bool__(self) -> bool:
        return self._slots > 0

    def lists(self, rows: I32, items: I32, at_ms: I64) -> None:
        """Readers by row (B,), each once, were given lists (B, size), -1 padded, at `at_ms` (B,)."""
        self._reserve(rows)
        slots = (self._pushed[rows][:, None] + np.arange(self._size)) % self._slots
        self._items[rows[:, None], slots] = items
        self._at_s[rows[:, None], slots] = _seconds(at_ms)[:, None]
        self._pushed[rows] += self._size

    def impressions(self, rows: I32, items: I32, at_ms: I64) -> None:
        """Items (n,) were shown to readers by row (n,), in their order."""
        if not len(rows):
            return
        self._reserve(rows)
        order = np.argsort(rows, kind="stable")
        rows, items, at_s = rows[order], items[order], _seconds(at_ms[order])
        distinct, starts, counts = np.unique(rows, return_index=True, return_counts=True)
        nth = np.arange(len(rows)) - np.repeat(starts, counts)
        last = nth >= np.repeat(counts, counts) - self._slots
        slots = (self._pushed[rows[last]] + nth[last]) % self._slots
        self._items[rows[last], slots] = items[last]
        self._at_s[rows[last], slots] = at_s[last]
        self._pushed[distinct] += counts

    def taken(self, rows: I32, items: I32) -> None:
        """Readers by row (n,) took items (n,): these bar nothing more."""
        inside = rows < len(self._pushed)
        rows, items = rows[inside], items[inside]
        event, slot = np.nonzero(self._items[rows] == items[:, None])
        self._items[rows[event], slot] = -1

    def pairs(self, rows: I32, now_ms: I64, before_newest: bool = False) -> I64:
        """(P, 2) of place in `rows` (B,) and item that is not to be listed at `now_ms` (B,). `before_newest`: as when
        the newest list was made."""
        inside = np.flatnonzero(rows < len(self._pushed))
        if not len(inside):
            return np.empty((0, 2), np.int64)
        mine = rows[inside]
        back = (self._pushed[mine][:, None] - 1 - np.arange(self._slots)) % self._slots
        first = self._size if before_newest else 0
        fresh = _seconds(now_ms[inside]).astype(np.int64)[:, None] - self._at_s[mine] <= self._keep_s
        held = fresh & (self._items[mine] > 0) & (back >= first) & (back < first + self._bars)
        place, slot = np.nonzero(held)
        return np.stack([inside[place], self._items[mine[place], slot].astype(np.int64)], axis=1)

    def forget(self, rows: Sequence[int]) -> None:
        """Readers who left, by row."""
        known = [row for row in rows if row < len(self._pushed)]
        self._items[known], self._at_s[known], self._pushed[known] = -1, 0, 0

    def bytes_used(self) -> int:
        """Bytes of the columns."""
        return self._items.nbytes + self._at_s.nbytes + self._pushed.nbytes

    def _reserve(self, rows: I32) -> None:
        size, wanted = len(self._pushed), int(rows.max(initial=-1)) + 1
        if wanted <= size:
            return
        grown = max(wanted, 64, 2 * size if size < 1024 else size + size // 4)
        for name in ("_items", "_at_s", "_pushed"):
            columns.grow(self.__dict__, name, grown)
        self._items[size:] = -1


def _seconds(at_ms: I64) -> U32:
    found: U32 = np.clip(at_ms // 1000, 0, LAST_S).astype(np.uint32)
    return found
