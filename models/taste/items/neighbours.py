"""What is learnt about the items of one partition: who leads to them, how popular they are. NumPy alone.

Keyed by the item reached: for each, decayed weights of its predecessors (C[j, i] of item-to-item counts, the
column of i), their sum, popularity and impressions. Forward decay as for users (`models.taste.decay`), one
half-life; sums of several readers meet here in an order that depends on partitions: popularity, totals and
impressions are kept in float64, so that they agree to 1e-6 whatever the order (float32 sums of 9,000 clicks: 2e-5).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.taste import actions, decay
from models.taste.fences import standing
from models.taste.index import ItemIndex
from models.taste.items import bars
from models.taste.items.itemrows import ItemRecords, decode, encode
from models.taste.readers.transitions import Transitions
from models.taste.toplists import TopLists

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


class ItemColumns:
    """Columns by row, one row an item of this partition.

    fence (I,) last applied offset of the transitions partition or -1; marks (I, P) last applied source offset
    by source partition: a transition at or below either is dropped. ref, popularity, total, impressions,
    newest_at_ms (I,).
    """

    def __init__(
        self,
        items: ItemIndex,
        sources: int,
        half_life_s: float = 30 * 86400.0,
        keep: int = 200,
        discount: float = 0.9,
    ) -> None:
        """`sources` partitions of clicks; `keep` predecessors an item; `discount` g of the k-th previous
        item.
        """
        self.items = items
        self.sources = sources
        self.keep = keep
        self.discount = discount
        self._half_life_ms = np.array(decay.whole_ms([half_life_s]), np.int64)
        self.drop()

    def drop(self) -> None:
        """Forget everything."""
        self.index: dict[int, int] = {}  # item index -> row
        self.item_of: I32 = np.zeros(64, np.int32)
        self.fence: I64 = np.full(64, -1, np.int64)
        self.marks: I64 = np.full((64, self.sources), -1, np.int64)
        self.ref: I64 = np.full(64, -1, np.int64)
        self.newest_at_ms: I64 = np.zeros(64, np.int64)
        self.popularity: F64 = np.zeros(64, np.float64)
        self.total: F64 = np.zeros(64, np.float64)
        self.impressions: F64 = np.zeros(64, np.float64)
        self.predecessors = TopLists(self.keep)
        self.contents: dict[int, bytes] = {}  # row -> bars and content vector (`models.taste.items.bars`)

    def __len__(self) -> int:
        return len(self.index)

    def rows_of(self, names: Sequence[str]) -> I64:
        """Rows of items by name."""
        return self._rows_of(self.items.lookup(names))

    def names(self, rows: I64) -> list[str]:
        """Names of items by row. An item of a partition always came by name."""
        return [self.items.names[i] or "" for i in self.item_of[rows].tolist()]

    def fold(self, batch: Transitions, offsets: I64) -> I64:
        """Apply transitions in offset order (of their own partition); rows (t,) that changed, ascending."""
        all_rows = self._rows_of(batch.items)
        applied = np.flatnonzero(self._fresh(all_rows, batch, offsets))
        if not len(applied):
            return np.empty(0, np.int64)
        rows, rank = np.unique(all_rows[applied], return_inverse=True)
        at_ms, kinds = batch.at_ms[applied], batch.kinds[applied]
        shown = kinds == actions.IMPRESSION
        weights = np.where(shown, np.float32(1), decay.snap(batch.weights[applied]))
        (whole,), (scaled,) = decay.frames(at_ms, weights, self._half_life_ms)
        ref = self.ref[rows]
        np.maximum.at(ref, rank, whole)
        kept = decay.scale_of(ref - self.ref[rows])
        for column in (self.popularity, self.total, self.impressions):
            column[rows] *= kept
        self.predecessors.weights[rows] *= kept[:, None]
        self.ref[rows] = ref
        scaled *= decay.scale_of(ref[rank] - whole)
        counted = np.where(shown | (kinds == actions.UNDO), 0, scaled)
        popularity = self.popularity[rows] + np.bincount(rank, counted, len(rows))
        self.popularity[rows] = np.maximum(
            popularity, 0
        )  # of what was taken back to the last, rounding is left
        self.impressions[rows] += np.bincount(rank, np.where(shown, scaled, 0), len(rows))
        self._add_pairs(rows, rank, batch.previous[applied], np.where(shown, np.float32(0), scaled))
        np.maximum.at(self.newest_at_ms, rows[rank], at_ms)
        np.maximum.at(self.fence, rows[rank], offsets[applied])
        np.maximum.at(self.marks, (rows[rank], batch.sources[applied]), batch.source_offsets[applied])
        return rows

    def describe(self, names: Sequence[str], values: Sequence[bytes], offsets: I64) -> I64:
        """Take items' content vectors, packed, and bars, in offset order; rows (t,) that changed, ascending. Of a batch
        this comes before `fold`, and `pass_by` after it: both stand behind one fence. Raises BadInput."""
        changed = set()
        for name, value, offset in zip(names, values, offsets.tolist(), strict=True):
            if bars.is_lift(value) and not len(self._known([name])):
                continue  # what was never barred must not become an item by that
            (row,) = self.rows_of([name]).tolist()
            before = self.contents.get(row, b"")
            if offset > self.fence[row] and (after := bars.kept(before, value)) != before:
                self._set_content(row, after)
                changed.add(row)
        return np.array(sorted(changed), np.int64)

    def pass_by(self, names: Sequence[str], offsets: I64) -> None:
        """Put the fence of items behind these offsets."""
        known = [place for place, name in enumerate(names) if len(self._known([name]))]
        np.maximum.at(self.fence, self._known([names[place] for place in known]), offsets[known])

    def _known(self, names: Sequence[str]) -> I64:
        """Rows of items by name, of those that have one."""
        found = [self.index.get(item, -1) for item in self.items.find(names).tolist()]
        return np.array([row for row in found if row >= 0], np.int64)

    def _set_content(self, row: int, value: bytes) -> None:
        if value:
            self.contents[row] = value
        else:
            self.contents.pop(row, None)

    def encode(self, rows: I64, publish: int = 100) -> list[bytes]:
        """Item-table rows with the `publish` heaviest predecessors; `publish=self.keep` keeps the whole
        state.
        """
        keys, weights = self.predecessors.heaviest(rows, publish)
        return encode(
            ItemRecords(
                names=self.names(rows),
                fence=self.fence[rows],
                marks=self.marks[rows],
                ref=self.ref[rows],
                newest_at_ms=self.newest_at_ms[rows],
                popularity=self.popularity[rows],
                total=self.total[rows],
                impressions=self.impressions[rows],
                predecessors=keys,
                weights=weights,
                contents=[self.contents.get(row, b"") for row in rows.tolist()],
            ),
            self.items,
            int(self._half_life_ms[0]),
        )

    def load(self, values: Sequence[bytes]) -> list[str]:
        """Set rows to encoded ones, given in the order of the log. Of several of one item, the one in memory included,
        that with the highest fence stands (`models.taste.fences`).

        Returns the items whose last given row is not the one that stands. Raises BadInput("item_layout").
        """
        found = decode(values, self.items, self.keep, int(self._half_life_ms[0]), self.sources)
        owners = self._rows_of(self.items.lookup(found.names))
        at, overtaken = standing(owners, found.fence, self.fence[owners])
        rows = owners[at]
        self.fence[rows] = found.fence[at]
        self.marks[rows] = found.marks[at]
        self.ref[rows] = found.ref[at]
        self.newest_at_ms[rows] = found.newest_at_ms[at]
        self.popularity[rows] = found.popularity[at]
        self.total[rows] = found.total[at]
        self.impressions[rows] = found.impressions[at]
        self.predecessors.keys[rows] = found.predecessors[at]
        self.predecessors.weights[rows] = found.weights[at]
        for row, place in zip(rows.tolist(), at.tolist(), strict=True):
            self._set_content(row, found.contents[place])
        return self.names(overtaken)

    def _fresh(self, rows: I64, batch: Transitions, offsets: I64) -> Bools:
        """Which transitions are above the item's fence and its mark of their source, batch mates included."""
        fresh: Bools = (offsets > self.fence[rows]) & (batch.source_offsets > self.marks[rows, batch.sources])
        group = rows * self.sources + batch.sources
        order = np.argsort(group, kind="stable")
        within = group[order][1:] == group[order][:-1]
        sent = batch.source_offsets[order]
        if bool((within & (sent[1:] <= sent[:-1])).any()):  # sent twice within the batch: rare
            newest: dict[int, int] = {}
            for i, (key, offset) in enumerate(
                zip(group.tolist(), batch.source_offsets.tolist(), strict=True)
            ):
                fresh[i] &= offset > newest.get(key, -1)
                newest[key] = max(offset, newest.get(key, -1))
        return fresh

    def _add_pairs(self, rows: I64, rank: I64, previous: I32, weights: F32) -> None:
        window = previous.shape[1]
        discounted = weights[:, None] * np.float32(self.discount) ** np.arange(window, dtype=np.float32)
        held = previous > 0
        owner = np.broadcast_to(rank[:, None], held.shape)[held]
        amount = discounted[held]
        self.total[rows] += np.bincount(owner, amount, len(rows))
        pairs, back = np.unique((owner.astype(np.int64) << 32) | previous[held], return_inverse=True)
        sums = np.bincount(back, amount, len(pairs)).astype(np.float32)
        self.predecessors.add(rows[pairs >> 32], (pairs & 0xFFFFFFFF).astype(np.int32), sums)

    def _rows_of(self, items: I32) -> I64:
        rows = np.empty(len(items), np.int64)
        for i, item in enumerate(items.tolist()):
            row = self.index.get(item)
            if row is None:
                row = self.index[item] = len(self.index)
                self._reserve(row + 1)
                self.item_of[row] = item
            rows[i] = row
        return rows

    def _reserve(self, rows: int) -> None:
        size = len(self.fence)
        if rows <= size:
            return
        self.predecessors.reserve(2 * size)
        for name in (
            "item_of",
            "fence",
            "marks",
            "ref",
            "newest_at_ms",
            "popularity",
            "total",
            "impressions",
        ):
            old = self.__dict__[name]
            more = np.full_like(old, -1 if name in ("fence", "marks", "ref") else 0)
            self.__dict__[name] = np.concatenate([old, more])
