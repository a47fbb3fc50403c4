"""The k best of many items from a look at few of them, with a proof. NumPy alone.

Few: followers of the reader's items whose counts reach a bar t, and the most popular items, `head`. Sketches are at
most of length 1, so any other item scores at most

    t + |wanted| + weight * (popularity of the first item beyond the head)

Where the k-th best of those looked at is above this, they are the k best of all, to the last item. The first bar is a
guess, a quantile of the reader's counts; where it was too high, what was found says how high it may be, and a second
look follows. Where nothing proves it (few counts, a strong taste), the reader is not `certain`, and somebody else must
look at all items. So guesses decide how much work is done, never what is found.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.taste.best import k_best
from models.taste.broadcast import apart
from models.taste.counts import Followers
from models.taste.table import ItemTable, Prepared

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

_FIRST_LOOK = 5  # followers a place of the list
_EVERY = 7  # of a reader's counts are sampled for the quantile
_BARRED = np.float32(-1e30)
_ABOVE_0 = np.finfo(np.float32).tiny
_ROUNDING = np.float32(1e-5)  # of a reader's largest count: more than float32 sums differ by


class Counts:
    """L0 at the followers of each reader, (B, E), barred ones far below 0; an item stands there as often as it follows
    one of the reader's. Until `put_back`, the sums lie in the table's scratch."""

    def __init__(self, table: ItemTable, prepared: Prepared, followers: Followers, pairs: I64) -> None:
        """`pairs` (P, 2) of a reader and a barred item below I."""
        self._followers, column = followers, prepared.column
        size, batch = len(column), followers.shape[0]
        self._sums = table.scratch.filled("sums", batch * size, np.float32, 0)
        self._barred = pairs[:, 0] * size + pairs[:, 1]
        np.add.at(self._sums, followers.cells, followers.parts)
        self.scale: F32 = np.zeros(
            batch, np.float32
        )  # (B,) the largest, barred ones included; 1 if that is 0
        np.maximum.at(self.scale, pairs[:, 0], self._sums[self._barred] * column[pairs[:, 1]])
        self._sums[self._barred] = _BARRED
        found = table.scratch.take("found", self._sums, followers.cells, followers.cells.shape)
        keys = table.scratch.array("followers", (len(followers.reader), followers.width), np.int64)
        np.subtract(followers.cells.reshape(keys.shape), (followers.reader * size)[:, None], out=keys)
        found *= table.scratch.take("columns", column, keys.reshape(-1), found.shape)
        self.found: F32 = found.reshape(batch, -1)
        cells = np.arange(batch)[:, None] * size + prepared.head
        self.head: F32 = self._sums[cells] * column[prepared.head]  # (B, H)
        np.maximum(self.scale, self.found.max(axis=1, initial=0), out=self.scale)
        self.scale[self.scale <= 0] = 1

    def reaching(self, rows: I64, bar: F32, but: Bools) -> tuple[I32, F32]:
        """Items (R, C), -1 padded, whose counts reach the bars (R,) of these readers, and the counts; none of `but`
        (I,)."""
        found = self.found if len(rows) == len(self.found) else self.found[rows]
        reached = np.empty(found.shape, np.bool_)
        apart(np.greater_equal, found, bar[:, None], reached)
        at = reached.reshape(-1).nonzero()[0]
        reader = at // found.shape[1]
        counts = found.reshape(-1)[at]
        if len(rows) < len(self.found):
            at += ((rows - np.arange(len(rows))) * found.shape[1])[reader]
        cells = self._followers.cells[at]
        items, distinct = (cells - rows[reader] * len(but)).astype(np.int32), self._distinct(cells)
        kept = distinct & ~but[items]
        return _padded(len(rows), reader[kept], items[kept], counts[kept])

    def _distinct(self, cells: I64) -> Bools:
        """One of each."""
        nth = np.arange(len(cells), dtype=np.float32)
        self._sums[cells] = nth  # of equal cells the last one's stays
        one: Bools = self._sums[cells] == nth
        return one

    def put_back(self) -> None:
        """Leave the sums at 0."""
        self._sums[self._followers.cells] = 0
        self._sums[self._barred] = 0


@dataclass(frozen=True, slots=True)
class Found:
    """The best items of B readers."""

    items: I32  # (B, k) best first, equal scores by index, -1 padded
    scores: F32  # (B, k)
    certain: Bools  # (B,) whether no other item can be among them


def search(
    table: ItemTable, prepared: Prepared, counts: Counts, barred: Bools, wanted: F32, weight: F32, k: int
) -> Found:
    """`barred` (I,) items for everybody. `counts` are put back."""
    look = _Look.of(table, prepared, counts, barred, prepared.both(wanted, weight), k)
    others = np.sqrt((wanted * wanted).sum(axis=1)) + weight * prepared.beyond_head
    margin = _ROUNDING * counts.scale
    bar = _bar(counts.found, _FIRST_LOOK * k)
    best, scores = look.at(np.arange(len(bar)), bar)
    least = scores[:, -1] - others - 2 * margin  # an item whose counts are below this is not among the best
    unsure = np.flatnonzero((best[:, -1] >= 0) & (least < bar) & (least > 0))
    if len(unsure):
        bar[unsure] = least[unsure]
        best[unsure], scores[unsure] = look.at(unsure, bar[unsure])
    counts.put_back()
    certain = (best[:, -1] >= 0) & (scores[:, -1] >= bar + others + margin)
    return Found(best, scores, certain)


@dataclass(frozen=True, slots=True)
class _Look:
    """Full scores of few items."""

    table: ItemTable
    counts: Counts
    but: Bools  # (I,) barred for everybody or in the head
    others: F32  # (B, D + 1) what taste and popularity weigh
    k: int
    heads: I32  # (H,) the head
    popular: F32  # (B, H) its scores

    @classmethod
    def of(
        cls, table: ItemTable, prepared: Prepared, counts: Counts, barred: Bools, others: F32, k: int
    ) -> "_Look":
        head = prepared.head
        popular = counts.head + others @ table.vectors[head].T
        popular[(counts.head < 0) | barred[head]] = -np.inf
        return cls(table, counts, prepared.in_head | barred, others, k, head.astype(np.int32), popular)

    def at(self, rows: I64, bar: F32) -> tuple[I32, F32]:
        """The k best of the head and of what reaches the bars (R,) of these readers."""
        items, scores = self.counts.reaching(rows, bar, self.but)
        shape = (*items.shape, self.others.shape[1])
        vectors = self.table.scratch.take("looked", self.table.vectors, items, shape)
        scores += np.matmul(vectors, self.others[rows, :, None])[..., 0]
        scores[items < 0] = -np.inf
        heads = np.broadcast_to(self.heads, (len(rows), len(self.heads)))
        return k_best(
            np.concatenate([items, heads], axis=1),
            np.concatenate([scores, self.popular[rows]], axis=1),
            self.k,
        )


def _bar(found: F32, wanted: int) -> F32:
    """(B,) what about so many of each row of `found` (B, E) reach; above 0."""
    sample = found[:, ::_EVERY]
    bar = np.full(len(found), _ABOVE_0)
    rank = sample.shape[1] - max(1, wanted // _EVERY)
    if rank > 0:
        np.maximum(bar, np.partition(sample, rank, axis=1)[:, rank], out=bar)
    return bar


def _padded(rows: int, row: I64, items: I32, counts: F32) -> tuple[I32, F32]:
    """Entries given row by row as two arrays (R, C), -1 and 0 padded."""
    sizes = np.bincount(row, minlength=rows)
    nth = np.arange(len(row)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    shape = (rows, int(sizes.max(initial=0)))
    all_items, all_counts = np.full(shape, -1, np.int32), np.zeros(shape, np.float32)
    all_items[row, nth], all_counts[row, nth] = items, counts
    return all_items, all_counts
