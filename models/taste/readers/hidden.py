"""What readers never want to see again: items that they hid or reported, and authors. NumPy alone.

Both are ordered sets of a reader, part of the reader's state: bounded, the oldest falls out and is counted. A reader's
ring forgets a `hide` after its last 64 events, these do not. What is hidden again keeps its place, so that an `undo` of
the second time leaves what the first one made.

Few readers hide anything, so the sets are arrays of those alone; a column tells who has any.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Bools = NDArray[np.bool_]

MOST_ITEMS = 256
MOST_AUTHORS = 64
_OF_ONE = 250  # bytes that one reader's array and its place in the index take beside the numbers, estimated

S = TypeVar("S", I32, U64)


@dataclass(slots=True)
class Kept:
    """Of one reader, oldest first."""

    items: I32 = field(default_factory=lambda: np.empty(0, np.int32))  # indices
    authors: U64 = field(default_factory=lambda: np.empty(0, np.uint64))  # hashes of names

    def bytes_used(self) -> int:
        return self.items.nbytes + self.authors.nbytes + _OF_ONE


class Hidden:
    """By row of the readers."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everybody."""
        self._kept: dict[int, Kept] = {}
        self._some: Bools = np.zeros(64, np.bool_)  # by row: whether there is anything
        self._bytes = 0

    def hide(self, row: int, item: int) -> bool:
        """Whether another item fell out for it."""
        kept = self._kept.get(row) or Kept()
        items, fell = _with(kept.items, item, MOST_ITEMS)
        self._set(row, Kept(items, kept.authors))
        return fell

    def show(self, row: int, item: int) -> bool:
        """Hide an item no longer; whether it was hidden."""
        kept = self._kept.get(row)
        if kept is None or not (kept.items == item).any():
            return False
        self._set(row, Kept(kept.items[kept.items != item], kept.authors))
        return True

    def block(self, row: int, author: int) -> bool:
        """Hide all of an author, by the hash of the name; whether another author fell out for it."""
        kept = self._kept.get(row) or Kept()
        authors, fell = _with(kept.authors, author, MOST_AUTHORS)
        self._set(row, Kept(kept.items, authors))
        return fell

    def unblock(self, row: int, author: int) -> bool:
        """Whether the author was hidden."""
        kept = self._kept.get(row)
        if kept is None or not (kept.authors == np.uint64(author)).any():
            return False
        self._set(row, Kept(kept.items, kept.authors[kept.authors != np.uint64(author)]))
        return True

    def of(self, rows: I32) -> dict[int, Kept]:
        """Place in `rows` -> what that reader hides, of those who hide anything."""
        places = self._at(rows).nonzero()[0].tolist() if self._kept else ()
        return {place: self._kept[int(rows[place])] for place in places}

    def pairs(self, rows: I32) -> tuple[I64, list[tuple[int, U64]]]:
        """(P, 2) of place in `rows` and hidden item; and places with hashes of hidden authors."""
        found = self.of(rows)
        items = [(place, kept.items) for place, kept in found.items() if len(kept.items)]
        authors = [(place, kept.authors) for place, kept in found.items() if len(kept.authors)]
        if not items:
            return np.empty((0, 2), np.int64), authors
        places = np.repeat([place for place, _ in items], [len(some) for _, some in items])
        pairs = np.stack([places, np.concatenate([some for _, some in items]).astype(np.int64)], axis=1)
        return pairs, authors

    def load(self, rows: I32, given: Mapping[int, Kept]) -> None:
        """Set what readers by row hide: by place in `rows`, nothing where no place is given."""
        self.forget([row for row in rows[self._at(rows)].tolist() if row in self._kept])
        for place, kept in given.items():
            self._set(int(rows[place]), kept)

    def forget(self, rows: Sequence[int]) -> None:
        """Readers who left, by row."""
        for row in rows:
            if row in self._kept:
                self._set(row, Kept())

    def bytes_used(self) -> int:
        """Bytes of the sets and the column."""
        return self._bytes + self._some.nbytes

    def _at(self, rows: I32) -> Bools:
        inside = np.minimum(rows, len(self._some) - 1)
        found: Bools = self._some[inside] & (rows == inside)
        return found

    def _set(self, row: int, kept: Kept) -> None:
        before = self._kept.pop(row, None)
        if before is not None:
            self._bytes -= before.bytes_used()
        some = bool(len(kept.items) or len(kept.authors))
        if some:
            self._kept[row] = kept
            self._bytes += kept.bytes_used()
            if row >= len(self._some):
                self._some = np.append(self._some, np.zeros(row + 1, np.bool_))
        if row < len(self._some):
            self._some[row] = some


def _with(held: S, value: int, most: int) -> tuple[S, bool]:
    """One more at the end, unless it is there; of more than `most` the oldest falls out: whether one did."""
    new = held.dtype.type(value)
    if (held == new).any():
        return held, False
    return np.append(held[1:] if len(held) >= most else held, new), len(held) >= most
