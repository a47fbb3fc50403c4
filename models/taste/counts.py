"""The counts layer of a batch of readers: what follows their last items, added up. NumPy alone.

    L0(i) = column(i) * sum over the last W positive items j_k of lambda**(k-1) / (1 + row(j_k))**b * C[j_k, i]

`column` is the same for all readers, so it is multiplied in where sums are read, not where they are made: what is done
for each of the (reader, past item, follower) parts is what lists cost.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.taste.scratch import Scratch
from models.taste.toplists import TopLists

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Followers:
    """N = L * F parts in arrays of the scratch: L lines, reader by reader and past item by past item, F slots of
    followers each. A free slot weighs 0, and its cell is another reader's or -1.
    """

    keys: I32  # (N,) followers, -1 in a free slot
    cells: I64  # (N,) reader * I + follower
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
        reader, place = (counting | (even & counting.any(axis=0))).nonzero()
        had = np.maximum(past[reader, place], 0)
        shape = (len(had), followers.width)
        keys = scratch.take("keys", followers.keys, had, shape)
        parts = scratch.take("parts", followers.weights, had, shape)
        parts *= worth[reader, place][:, None]
        first = reader * len(column)
        narrow = len(past) * len(column) < 1 << 31  # twice as fast as to add and widen in one
        cells = scratch.array("cells", shape, np.int64)
        cells[...] = np.add(
            keys,
            first[:, None].astype(np.int32 if narrow else np.int64),
            out=scratch.array("narrow", shape, np.int32) if narrow else cells,
        )
        return cls(keys.reshape(-1), cells.reshape(-1), parts.reshape(-1), reader, place, past.shape, column)

    def write_to(self, counts: F32) -> None:
        """Set `counts` (B, I) to L0."""
        counts.fill(0)
        np.add.at(counts.reshape(-1), self.cells, self.parts)
        counts *= self.column

    def by_past(self, items: I32, scratch: Scratch) -> F32:
        """L0 of listed items (B, k) by past item: (B, k, W)."""
        (batch, window), k, size = self.shape, items.shape[1], len(self.column)
        found = np.zeros((batch, k, window), np.float32)
        where = scratch.filled("where", batch * size, np.int16, -1)
        reader, nth = np.nonzero(items >= 0)
        listed = reader * size + items[reader, nth]
        where[listed] = nth
        at = np.take(where, self.cells, mode="clip", out=scratch.array("at", self.cells.shape, np.int16))
        hits = (at >= 0).nonzero()[0]
        where[listed] = -1
        if len(hits):
            line = hits // (len(self.cells) // len(self.reader))
            cell = (self.reader[line] * k + at[hits]) * window + self.place[line]
            found.reshape(-1)[:] = np.bincount(cell, self.parts[hits], found.size)
            found *= self.column[np.maximum(items, 0)][..., None]
        return found


def _once(past: I32, heads: F64) -> F32:
    """What items (B, W) count, all of it at an item's newest place; 0 where there is none."""
    if not past.size:
        return np.zeros(past.shape, np.float32)
    newest = (past[:, :, None] == past[:, None, :]).argmax(axis=2)
    at = np.arange(len(past))[:, None]
    summed = np.zeros(past.shape, np.float32)
    np.add.at(summed, (at, newest), np.where(past > 0, heads, 0).astype(np.float32))
    return summed
