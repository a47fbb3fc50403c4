"""Bounded sparse rows: for each row the N heaviest keys with their weights, as two matrices. NumPy alone.

Serves both directions of item-to-item counts: an item's predecessors (weights are added to) and its followers
(weights are set). A free slot has key -1 and weight 0. All operations take many (row, key) pairs, each pair
at most once a call.
"""

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_ROUNDING = 1e-6  # of what is taken away
_CHUNK = 8192  # pairs looked up at once: bounds the comparison to chunk x N x 4 bytes


class TopLists:
    """`keys` (R, N) int32 and `weights` (R, N) float32, in no particular order within a row."""

    def __init__(self, width: int, rows: int = 64) -> None:
        self.width = width
        self.keys: I32 = np.full((rows, width), -1, np.int32)
        self.weights: F32 = np.zeros((rows, width), np.float32)

    def reserve(self, rows: int) -> None:
        """Room for this many rows."""
        size = len(self.keys)
        if rows > size:
            more = max(rows, 2 * size) - size
            self.keys = np.concatenate([self.keys, np.full((more, self.width), -1, np.int32)])
            self.weights = np.concatenate([self.weights, np.zeros((more, self.width), np.float32)])

    def get(self, rows: I64, keys: I32) -> F32:
        """Weights (P,) of pairs, 0 where not held."""
        slots = self._find(rows, keys)
        return np.where(slots >= 0, self.weights[rows, slots], np.float32(0))

    def add(self, rows: I64, keys: I32, weights: F32) -> None:
        """Add to the weights of pairs (P,). A new pair takes a free slot or a lighter one; the heaviest new
        pair of a row takes the lightest slot in any case, so that newcomers can grow. Weights below 0 take away: a pair
        of which nothing but rounding is left goes, and one that is not held in a full row (pushed out before) is no
        pair. More may be taken than was given: what is below 0 then stays, so that sums do not depend on where
        additions are cut.
        """
        slots = self._find(rows, keys)
        held = slots >= 0
        self.weights[rows[held], slots[held]] += weights[held]
        taking = np.flatnonzero(held & (weights < 0))
        if len(taking):
            left = self.weights[rows[taking], slots[taking]]
            gone = taking[np.abs(left) <= -_ROUNDING * weights[taking]]
            self.weights[rows[gone], slots[gone]] = 0
            self.keys[rows[gone], slots[gone]] = -1
        fresh = ~held & (weights != 0)
        self._insert(rows[fresh], keys[fresh], weights[fresh], push_out=True)

    def put(self, rows: I64, keys: I32, weights: F32) -> None:
        """Set the weights of pairs (P,). A new pair displaces the lightest only if it is heavier."""
        slots = self._find(rows, keys)
        held = slots >= 0
        self.weights[rows[held], slots[held]] = weights[held]
        self._insert(rows[~held], keys[~held], weights[~held], push_out=False)

    def remove(self, rows: I64, keys: I32) -> None:
        """Free the slots of pairs (P,) that are held."""
        slots = self._find(rows, keys)
        held = slots >= 0
        self.weights[rows[held], slots[held]] = 0
        self.keys[rows[held], slots[held]] = -1

    def clear(self, rows: I64) -> None:
        """Free all slots of rows."""
        self.keys[rows] = -1
        self.weights[rows] = 0

    def heaviest(self, rows: I64, count: int) -> tuple[I32, F32]:
        """Keys and weights (R, count), heaviest first, equal weights by key; -1 and 0 padded, behind them all."""
        keys, weights = self.keys[rows], self.weights[rows]
        order = np.lexsort((keys, -weights, keys < 0), axis=1)[:, :count]
        return np.take_along_axis(keys, order, 1), np.take_along_axis(weights, order, 1)

    def _find(self, rows: I64, keys: I32) -> I64:
        """Slots (P,) of pairs, -1 where not held."""
        slots = np.full(len(rows), -1)
        for cut in range(0, len(rows), _CHUNK):
            part = slice(cut, cut + _CHUNK)
            same = self.keys[rows[part]] == keys[part, None]
            first = same.argmax(axis=1)
            slots[part] = np.where(same[np.arange(len(first)), first], first, -1)
        return slots

    def _insert(self, rows: I64, keys: I32, weights: F32, push_out: bool) -> None:
        """Give new pairs slots, heaviest first, each row's lightest slots first."""
        if not len(rows):
            return
        order = np.lexsort((keys, -weights, rows))
        rows, keys, weights = rows[order], keys[order], weights[order]
        fresh = np.append(True, rows[1:] != rows[:-1])
        starts, rank = np.flatnonzero(fresh), np.cumsum(fresh) - 1
        nth = np.arange(len(rows)) - starts[rank]
        owners = rows[starts]
        free = self.keys[owners] < 0
        by_weight = np.lexsort((self.keys[owners], self.weights[owners], ~free), axis=1)
        fits = nth < self.width
        rows, keys, weights, rank, nth = (column[fits] for column in (rows, keys, weights, rank, nth))
        slots = by_weight[rank, nth]
        wins = (self.keys[rows, slots] < 0) | (weights > self.weights[rows, slots])
        if push_out:
            wins |= (nth == 0) & (weights > 0)
        rows, keys, weights, slots = rows[wins], keys[wins], weights[wins], slots[wins]
        self.keys[rows, slots] = keys
        self.weights[rows, slots] = weights
