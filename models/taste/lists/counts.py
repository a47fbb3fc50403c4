"""The counts layer of a batch of readers: what follows their last items, added up. NumPy alone.

    L0(i) = column(i) * sum over the last W positive items j_k of lambda**(k-1) / (1 + row(j_k))**b * C[j_k, i]

`column` is the same for all readers, so it is multiplied in where sums are read, not where they are made: what is done
for each of the (reader, past item, follower) parts is what lists cost. Readers go in groups whose sums stay in the
processor's cache while their parts are added up.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.taste.broadcast import apart
from models.taste.scratch import Scratch
from models.taste.toplists import TopLists

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


_GROUP = 1 << 18  # cells of a group of readers: a megabyte of sums


@dataclass(frozen=True, slots=True)
class Group:
    """Readers start..stop, and where their parts are."""

    start: int
    stop: int
    parts: slice


@dataclass(frozen=True, slots=True)
class Followers:
    """N = L * F parts in arrays of the scratch: L lines, reader by reader and past item by past item, F slots of
    followers each. A free slot weighs 0, and its cell is another reader's or -1.
    """

    cells: I64  # (N,) reader's place in its group * I + follower
    parts: F32  # (N,) without `column`
    reader: I64  # (L,) whose line it is
    place: I64  # (L,) of its past item
    shape: tuple[int, int]  # B, W
    column: F32  # (I,)

    @classmethod
    def of(
        cls, followers: TopLists, past: I32, heads: F64, column: F32, scratch: Scratch, even: bool = False
    ) -> "Followers":
        """`past` (B, W) items, -1 none, and what each counts: `heads` (B, W). A repeated item counts at its newest
        place. Only what counts has a line, unless `even`: then all readers have as many, some of them of nothing."""
        worth = _once(past, heads)
        counting = worth != 0
        if even:
            counting |= counting.any(axis=0)
        reader, place = counting.nonzero()
        had = np.maximum(past[reader, place], 0)
        shape = (len(had), followers.width)
        parts = scratch.take("parts", followers.weights, had, shape)
        parts *= worth[reader, place][:, None]
        keys = scratch.take("keys", followers.keys, had, shape)
        size = len(column)
        first = reader * size if len(past) <= group_size(size) else reader % group_size(size) * size
        keys += first.astype(np.int32)[:, None]
        cells = scratch.array("cells", shape, np.int64)
        cells[...] = keys  # to add and then widen is twice as fast as both in one
        return cls(cells.reshape(-1), parts.reshape(-1), reader, place, past.shape, column)

    @property
    def width(self) -> int:
        """F, slots a line."""
        return len(self.cells) // max(1, len(self.reader))

    def groups(self) -> Iterator[Group]:
        """All readers, in order."""
        batch, size = self.shape[0], group_size(len(self.column))
        if batch <= size:
            yield Group(0, batch, slice(0, len(self.cells)))
            return
        starts = range(0, batch, size)
        ends = np.searchsorted(self.reader, np.arange(size, batch + size, size)) * self.width
        first = 0
        for start, end in zip(starts, ends.tolist(), strict=True):
            yield Group(start, min(start + size, batch), slice(first, end))
            first = end

    def write_to(self, counts: F32) -> None:
        """Set `counts` (B, I) to L0."""
        for group in self.groups():
            own = counts[group.start : group.stop]
            own.fill(0)
            np.add.at(own.reshape(-1), self.cells[group.parts], self.parts[group.parts])
            apart(np.multiply, own, self.column, own)

    def by_past(self, items: I32, scratch: Scratch) -> F32:
        """L0 of listed items (B, k) by past item: (B, k, W)."""
        (batch, window), k, size = self.shape, items.shape[1], len(self.column)
        found = np.zeros((batch, k, window), np.float32)
        nth = scratch.array("nth", self.cells.shape, np.int16)
        together = group_size(size)
        nth_of = scratch.filled("nth_of", together * size, np.int16, -1)
        listed = (items >= 0).reshape(-1).nonzero()[0]
        reader = listed // k
        at = reader % together * size + items.reshape(-1)[listed]
        which = (listed - reader * k).astype(np.int16)
        first = 0
        for group in self.groups():
            end = int(listed.searchsorted(group.stop * k))
            nth_of[at[first:end]] = which[first:end]
            nth_of.take(self.cells[group.parts], mode="clip", out=nth[group.parts])
            nth_of[at[first:end]] = -1
            first = end
        hits = (nth >= 0).nonzero()[0]
        if len(hits):
            line = hits // self.width
            hit = self.reader[line] * k + nth[hits]
            parts = self.parts[hits] * self.column[items.reshape(-1)[hit]]
            np.add.at(found.reshape(-1), hit * window + self.place[line], parts)
        return found


def group_size(items: int) -> int:
    """Readers of a group, of so many items."""
    return max(1, _GROUP // items)


def _once(past: I32, heads: F64) -> F32:
    """What items (B, W) count, all of it at an item's newest place; 0 where there is none."""
    if not past.size:
        return np.zeros(past.shape, np.float32)
    newest = (past[:, :, None] == past[:, None, :]).argmax(axis=2)
    newest += np.arange(0, past.size, past.shape[1])[:, None]
    summed = np.zeros(past.size, np.float32)
    worth = heads.astype(np.float32)
    worth[past <= 0] = 0
    np.add.at(summed, newest.reshape(-1), worth.reshape(-1))
    return summed.reshape(past.shape)
