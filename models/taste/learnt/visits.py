"""Visits like this one, found through a bounded index item -> latest visits, and what came next in them. NumPy alone.

Session kNN (Ludewig and Jannach 2018, "Evaluation of session-based recommendation algorithms", V-SkNN; Garg et al.
2019, STAN) in a form that learns from every event:

    sim(v) = sum over the visit's latest distinct items at place r (0 the last) that v has of 1/(1+r) / sqrt(items of v)
    alike(i)  = sum over the N most similar v that have i of sim(v)
    fresh(i)  = the same with sim(v) fade(age of v) / (1 + place of the latest common item)
    after(i)  = the same for i that came after that common item in v, divided by 1 + (steps after it - 1)/2

Everything is bounded: visits (the one that began first leaves), items of a visit, visits an item. Times are given.
"""

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

NEAREST = 150
LATEST = 10  # distinct items of the visit that are looked up
KEPT = 32  # distinct items of a visit
PER_ITEM = 500  # visits
HALF_LIFE_MS = 3 * 86_400_000
MAX_VISITS = 200_000


class Visits:
    """items (V, KEPT) int32 in the order they first came, -1 padded; ended_ms (V,). Not thread-safe."""

    def __init__(self, items: int, max_visits: int = MAX_VISITS) -> None:
        """`items` bounds the catalogue. Raises ValueError unless both are at least 1."""
        if min(items, max_visits) < 1:
            raise ValueError("items and max_visits must be at least 1")
        self._max = max_visits
        self._row_of: dict[int, int] = {}
        self._visitor: list[int] = []
        self._items: I32 = np.full((256, KEPT), -1, np.int32)
        self._count: I32 = np.zeros(256, np.int32)
        self._ended_ms: I64 = np.zeros(256, np.int64)
        self._max_items = items
        self._latest: I32 = np.full((min(items, 256), PER_ITEM), -1, np.int32)
        self._pushed: I64 = np.zeros(min(items, 256), np.int64)
        self._next = 0

    def learn(self, visit: int, item: int, at_ms: int) -> None:
        """A visit, named by a number, came to an item below the bound."""
        if item >= len(self._pushed):
            self._reserve(item + 1)
        row = self._row_of.get(visit, -1)
        row = self._begin(visit) if row < 0 else row
        self._ended_ms[row] = at_ms
        count = self._count[row]
        if count < KEPT and not (self._items[row, :count] == item).any():
            self._items[row, count] = item
            self._count[row] += 1
            self._latest[item, self._pushed[item] % PER_ITEM] = row
            self._pushed[item] += 1

    def scores(self, history: I32, at_ms: int, size: int, visit: int = -1) -> F32:
        """(3, size) `alike`, `fresh` and `after` for a visit with this history, oldest first."""
        found = np.zeros((3, size), np.float32)
        newest = history[::-1]
        distinct, first = np.unique(newest, return_index=True)
        items = distinct[np.argsort(first)]
        items = items[items < len(self._pushed)][:LATEST]
        rows, common = self._near(items, self._row_of.get(visit, -1))
        if not len(rows):
            return found
        count = self._count[rows]
        places = np.argmax(common > 0, axis=1)  # of the latest common item
        similar = (common / (1.0 + np.arange(len(items)))).sum(axis=1) / np.sqrt(count)
        fade = np.exp2(-np.maximum(at_ms - self._ended_ms[rows], 0) / HALF_LIFE_MS)
        best = np.argsort(-similar * (0.3 + 0.7 * fade), kind="stable")[:NEAREST]
        theirs = self._items[rows[best]]
        where = np.argmax(theirs == items[places[best]][:, None], axis=1)
        steps = np.arange(KEPT) - where[:, None]
        fresh = similar[best] * fade[best] / (1 + places[best])
        after = (similar[best] / (1 + places[best]))[:, None] / (1 + np.maximum(steps - 1, 0) / 2)
        held = theirs >= 0
        flat = theirs[held]
        by = (np.broadcast_to(similar[best, None], held.shape), np.broadcast_to(fresh[:, None], held.shape))
        for line, weights in enumerate((*by, np.where(steps > 0, after, 0.0))):
            found[line] = np.bincount(flat, weights[held], size)[:size]
        return found

    def forget(self, visit: int) -> None:
        """Erase a visit: nothing of it is found any more."""
        row = self._row_of.get(visit, -1)
        if row >= 0:
            self._leave(row)
            self._visitor[row] = -1

    def bytes_used(self) -> int:
        """Bytes of visits and index."""
        arrays = (self._items, self._count, self._ended_ms, self._latest, self._pushed)
        return sum(array.nbytes for array in arrays)

    def _reserve(self, items: int) -> None:
        """Raises IndexError beyond the bound of items."""
        if items > self._max_items:
            raise IndexError(f"item {items - 1} of a catalogue of {self._max_items}")
        more = min(self._max_items, max(items, 2 * len(self._pushed))) - len(self._pushed)
        self._latest = np.concatenate([self._latest, np.full((more, PER_ITEM), -1, np.int32)])
        self._pushed = np.append(self._pushed, np.zeros(more, np.int64))

    def _near(self, items: I32, own: int) -> tuple[I64, NDArray[np.bool_]]:
        """Visits (n,) that had one of the items lately, and which of them each had (n, items)."""
        lists = self._latest[items]
        place, column = np.nonzero((lists >= 0) & (lists != own))
        rows, back = np.unique(lists[place, column], return_inverse=True)
        common = np.zeros((len(rows), len(items)), np.bool_)
        common[back, place] = True
        return rows.astype(np.int64), common

    def _begin(self, visit: int) -> int:
        row = self._next % self._max
        if self._next < self._max and row >= len(self._count):
            more = min(self._max, 2 * len(self._count)) - len(self._count)
            self._items = np.concatenate([self._items, np.full((more, KEPT), -1, np.int32)])
            self._count = np.append(self._count, np.zeros(more, np.int32))
            self._ended_ms = np.append(self._ended_ms, np.zeros(more, np.int64))
        elif self._next >= self._max:
            self._leave(row)
        self._next += 1
        self._row_of[visit] = row
        if row == len(self._visitor):
            self._visitor.append(visit)
        self._visitor[row] = visit
        return row

    def _leave(self, row: int) -> None:
        if self._visitor[row] < 0:
            return  # forgotten before
        items = self._items[row, : self._count[row]]
        lists = self._latest[items]
        lists[lists == row] = -1
        self._latest[items] = lists
        self._items[row], self._count[row] = -1, 0
        del self._row_of[self._visitor[row]]
