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
from models.taste.items.table import ItemTable, Prepared
from models.taste.lists.counts import Followers, group_size

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
    one of the reader's."""

    def __init__(self, table: ItemTable, prepared: Prepared, followers: Followers, pairs: I64) -> None:
        """`pairs` (P, 2) of a reader and a barred item below I."""
        column, batch = prepared.column, followers.shape[0]
        self._followers, self._size, self._scratch = followers, len(column), table.scratch
        pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
        found, head, barred = self._sums(prepared.head, pairs)
        keys = table.scratch.array("followers", (len(followers.reader), followers.width), np.int64)
        np.subtract(
            followers.cells.reshape(keys.shape), self._first_cells(followers.reader)[:, None], out=keys
        )
        found *= table.scratch.take("columns", column, keys.reshape(-1), found.shape)
        self.found: F32 = found.reshape(batch, -1)
        self.head: F32 = head * column[prepared.head]  # (B, H)
        # (B,) the largest, barred ones included; 1 if that is 0
        self.scale: F32 = self.found.max(axis=1, initial=0)
        np.maximum.at(self.scale, pairs[:, 0], barred * column[pairs[:, 1]])
        self.scale[self.scale <= 0] = 1

    def _sums(self, head: I64, pairs: I64) -> tuple[F32, F32, F32]:
        """At the followers (N,), at the head (B, H), and what barred ones (P,) had: pairs ascend by reader."""
        followers, size = self._followers, self._size
        sums = self._scratch.filled("sums", group_size(size) * size, np.float32, 0)
        found = self._scratch.array("found", followers.cells.shape, np.float32)
        of_head = np.empty((followers.shape[0], len(head)), np.float32)
        before = np.empty(len(pairs), np.float32)
        barred, first = self._first_cells(pairs[:, 0]) + pairs[:, 1], 0
        for group in followers.groups():
            cells = followers.cells[group.parts]
            end = int(np.searchsorted(pairs[:, 0], group.stop))
            off = barred[first:end]
            np.add.at(sums, cells, followers.parts[group.parts])
            before[first:end] = sums[off]
            sums[off] = _BARRED
            np.take(sums, cells, mode="clip", out=found[group.parts])
            count = group.stop - group.start
            of_head[group.start : group.stop] = sums[: count * size].reshape(count, size)[:, head]
            sums[cells] = 0
            sums[off] = 0
            first = end
        return found, of_head, before

    def _first_cells(self, readers: I64) -> I64:
        """Where the cells of these readers (N,) begin in their groups."""
        return readers % group_size(self._size) * self._size

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
        items = self._followers.cells[at] - self._first_cells(rows)[reader]
        kept = self._distinct(reader, items) & ~but[items]
        return _padded(len(rows), reader[kept], items[kept].astype(np.int32), counts[kept])

    def _distinct(self, reader: I64, items: I64) -> Bools:
        """One of each."""
        cells = reader * self._size + items
        where = self._scratch.array("distinct", (len(self.found) * self._size,), np.int32)
        nth = np.arange(len(cells), dtype=np.int32)
        where[cells] = nth  # of equal cells the last one's stays
        one: Bools = where[cells] == nth
        return one


@dataclass(frozen=True, slots=True)
class Found:
    """The best items of B readers."""

    items: I32  # (B, k) best first, equal scores by index, -1 padded
    scores: F32  # (B, k)
    certain: Bools  # (B,) whether no other item can be among them


def search(
    table: ItemTable, prepared: Prepared, counts: Counts, barred: Bools, wanted: F32, weight: F32, k: int
) -> Found:
    """`barred` (I,) items for everybody."""
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
