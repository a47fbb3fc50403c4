"""User-user cosine with the N nearest readers alone, found through a bounded index item -> recent readers. NumPy alone.

Beside `models.taste.alike.usercf`, which sums over all readers: keeping the N nearest breaks its identity, so that
readers' profiles must be at hand. Candidates are who had one of the reader's items among that item's last `per_item`
readers; their similarities are exact. Everything is bounded: readers (the one whose last change is oldest leaves),
items of a profile, readers an item. Who the neighbours are never leaves this module: only sums over them do.
"""

import numpy as np
from numpy.typing import NDArray

from models.taste.alike.usercf import Profile

F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

NEAREST = 50
ANCHORS = 10  # of a reader's latest items, by which a neighbour's history is laid beside theirs
ANCHOR_FADE = 0.8  # from one of them to the one before
REACH = 15.0  # items of a neighbour's history until what lies that far off counts 1/e
BEFORE = 0.6  # of what lies before the shared items instead of behind


class NearestReaders:
    """Profiles by reader and, by item, who had it lately. Readers are any hashable name. Not thread-safe.

    items (R, ring) int32, -1 padded; values (R, ring) and lengths (R,) float64; recent (I, per_item) int32 rows, -1
    where none. `beyond` counts values of items over `max_items`: they count in profiles, but lead to no candidate.
    """

    def __init__(
        self,
        ring: int = 64,
        nearest: int = NEAREST,
        per_item: int = 100,
        max_readers: int = 100_000,
        max_items: int = 65_536,
    ) -> None:
        """Raises ValueError unless all are at least 1."""
        if min(ring, nearest, per_item, max_readers, max_items) < 1:
            raise ValueError("ring, nearest, per_item, max_readers and max_items must be at least 1")
        self._ring, self._nearest, self._max_readers, self._max_items = ring, nearest, max_readers, max_items
        self.beyond = 0
        self._rows: dict[object, int] = {}  # by last change, oldest first
        self._free: list[int] = []
        self._items: I32 = np.full((64, ring), -1, np.int32)
        self._values: F64 = np.zeros((64, ring))
        self._lengths: F64 = np.zeros(64)
        self._recent: I32 = np.full((256, per_item), -1, np.int32)
        self._pushed: I64 = np.zeros(256, np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def change(self, reader: object, after: Profile, item: int) -> None:
        """The reader's profile (at most `ring` items) after a change of `item`."""
        row = self._rows.pop(reader, -1)
        row = self._new_row() if row < 0 else row
        self._rows[reader] = row
        self._leave(row, self._items[row][~np.isin(self._items[row], after.items)])
        count = len(after.items)
        self._items[row] = -1
        self._items[row, :count], self._values[row, :count] = after.items, after.values
        self._lengths[row] = after.length()
        if item >= self._max_items:
            self.beyond += 1
        elif (after.items == item).any():
            self._remember(item, row)

    def forget(self, reader: object) -> bool:
        """Erase a reader; whether there was one."""
        row = self._rows.pop(reader, None)
        if row is None:
            return False
        self._clear(row)
        self._free.append(row)
        return True

    def scores(self, profile: Profile, size: int, reader: object = None) -> F64:
        """Sum of sim(u, v) r_vi over the N nearest v for items 0..size-1 (size,). `reader` is nobody's neighbour."""
        known = profile.items[profile.items < len(self._recent)]
        rows, near = self._near(profile, np.unique(self._recent[known]), reader)
        items = self._items[rows].reshape(-1)
        held = (items >= 0) & (items < size)
        parts = (near[:, None] * self._values[rows]).reshape(-1)
        sums: F64 = np.bincount(items[held], parts[held], size).astype(np.float64)
        return sums

    def alongside(self, profile: Profile, size: int, reader: object = None) -> F64:
        """(2, size): what `scores` gives, and the same with each neighbour's items counted by their place beside the
        shared ones (d items behind their mean place: exp(-|d| / REACH), before it BEFORE of that). The latest of the
        profile's items must stand last, as they do in all profiles made by `with_value`."""
        known = profile.items[profile.items < len(self._recent)]
        rows, near = self._near(profile, np.unique(self._recent[known]), reader)
        items = self._items[rows]
        anchors = np.zeros(max(int(profile.items.max(initial=0)), int(items.max(initial=0))) + 2)
        last = profile.items[-ANCHORS:][::-1]
        anchors[last] = ANCHOR_FADE ** np.arange(len(last))
        weights = anchors[items]  # -1 pads, and reads the last place, which is nobody's
        total = weights.sum(axis=1)
        places = np.arange(items.shape[1])
        middle = (weights @ places) / np.where(total > 0, total, 1)
        behind = places - middle[:, None]
        beside = np.exp(np.abs(behind) / -REACH) * np.where(behind > 0, 1, BEFORE) * (total > 0)[:, None]
        held = (items >= 0) & (items < size)
        parts = near[:, None] * self._values[rows]
        found: F64 = np.stack(
            [np.bincount(items[held], one[held], size) for one in (parts, near[:, None] * beside)]
        )
        return found

    def rating(self, profile: Profile, item: int, reader: object = None) -> float:
        """Mean value of the item by its N nearest recent raters, weighed by sim(u, v) > 0; NaN if there is none."""
        if item >= len(self._recent):
            return float("nan")
        rows, near = self._near(profile, np.unique(self._recent[item]), reader)
        total = float(near.sum())
        values = self._values[rows][self._items[rows] == item]
        return float(near @ values) / total if total > 0 else float("nan")

    def bytes_used(self) -> int:
        """Bytes of profiles and index."""
        arrays = (self._items, self._values, self._lengths, self._recent, self._pushed)
        return sum(array.nbytes for array in arrays)

    def _near(self, profile: Profile, rows: I32, reader: object) -> tuple[I32, F64]:
        """Of candidates by row the nearest with sim > 0, best first (ties: lower row), and their sims."""
        rows = rows[(rows >= 0) & (rows != self._rows.get(reader, -1))]
        length = profile.length()
        if not len(rows) or not length:
            return rows[:0], np.empty(0)
        held = self._items[rows]
        # -1 pads, and reads the last place, which is nobody's
        mine = np.zeros(max(int(profile.items.max()), int(held.max(initial=0))) + 2)
        mine[profile.items] = profile.values
        near = (mine[held] * self._values[rows]).sum(axis=1)
        near /= length * np.maximum(self._lengths[rows], 1e-300)
        best = np.argsort(-near, kind="stable")[: self._nearest]
        best = best[near[best] > 0]
        return rows[best], near[best]

    def _remember(self, item: int, row: int) -> None:
        if item >= len(self._recent):
            size = min(max(item + 1, 2 * len(self._recent)), self._max_items)
            more = size - len(self._recent)
            self._recent = np.concatenate(
                [self._recent, np.full((more, self._recent.shape[1]), -1, np.int32)]
            )
            self._pushed = np.append(self._pushed, np.zeros(more, np.int64))
        if not (self._recent[item] == row).any():
            self._recent[item, self._pushed[item] % self._recent.shape[1]] = row
            self._pushed[item] += 1

    def _new_row(self) -> int:
        if self._free:
            return self._free.pop()
        count = len(self._rows)
        if count >= self._max_readers:
            row = self._rows.pop(next(iter(self._rows)))
            self._clear(row)
            return row
        if count == len(self._lengths):
            self._items = np.concatenate([self._items, np.full_like(self._items, -1)])
            self._values = np.concatenate([self._values, np.zeros_like(self._values)])
            self._lengths = np.append(self._lengths, np.zeros(count))
        return count

    def _clear(self, row: int) -> None:
        """No trace of the row's reader: neither values nor a place among an item's readers."""
        self._leave(row, self._items[row])
        self._items[row], self._values[row], self._lengths[row] = -1, 0, 0

    def _leave(self, row: int, items: I32) -> None:
        """The row is no longer among the readers of these items (-1 for none)."""
        items = items[(items >= 0) & (items < len(self._recent))]
        readers = self._recent[items]
        self._recent[items] = np.where(readers == row, np.int32(-1), readers)
