"""Bounded counts of which items go together in readers' histories, and where two steps of them lead. NumPy alone.

Beside the counts that the item side keeps (`models.taste.items.neighbours`): other windows and directions over the same
events, for sources of their own. On item i, the k-th most recent earlier item j of W:

    C[j, i] += g**(k-1)      C[i, j] += s * g**(k-1)
    score(i) = sum over k of lambda**(k-1) C[j_k, i] / ((1 + row[j_k])**b (1 + column[i])**a)
    walk(i)  = sum over the N best items j of p_j C[j, i] / ((1 + row[j])**b (1 + column[i])**a), p ~ score

A walk finds what was never had together with the reader's items, only with what goes with them. A row holds the `keep`
heaviest items. A function of the events in their order.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.taste.toplists import TopLists

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

WALK_FROM = 100


@dataclass(frozen=True, slots=True)
class PairSettings:
    """Symbols as in the formulas above."""

    window: int = 3  # W
    discount: float = 0.8  # g
    order_decay: float = 0.8  # lambda
    symmetry: float = 1.0  # s
    popularity_power: float = 0.3  # a
    row_power: float = 0.5  # b
    keep: int = 200


LAST_STEPS = PairSettings()
WIDE = PairSettings(window=50, discount=0.97, order_decay=0.97, popularity_power=0.5)


class Pairs:
    """Counts over a catalogue of I items, grown as items come. row, column (I,) float64."""

    def __init__(self, settings: PairSettings, items: int = 64) -> None:
        self.settings = settings
        self.counts = TopLists(settings.keep, items)
        self._row: F64 = np.zeros(items)
        self._column: F64 = np.zeros(items)

    def learn(self, recent: I32, item: int) -> None:
        """A reader who had `recent` (oldest first, repeats stay) came to `item`."""
        how = self.settings
        before = recent[::-1][: how.window]
        weights = how.discount ** np.arange(len(before))
        other = before != item
        distinct, back = np.unique(before[other], return_inverse=True)
        if not len(distinct):
            return
        self._reserve(max(item, int(distinct.max())) + 1)
        given = np.bincount(back, weights[other], len(distinct))
        items = np.full(len(distinct), item, np.int64)
        rows, columns = distinct.astype(np.int64), items.astype(np.int32)
        values = given.astype(np.float32)
        self._row[distinct] += given
        self._column[item] += given.sum()
        if how.symmetry:  # both ways at once: every call costs
            back_given = how.symmetry * given
            rows, columns = np.append(rows, items), np.append(columns, distinct.astype(np.int32))
            values = np.append(values, back_given.astype(np.float32))
            self._row[item] += back_given.sum()
            self._column[distinct] += back_given
        self.counts.add(rows, columns, values)

    def scores(self, recent: I32, size: int) -> F32:
        """(size,) for a reader who had `recent`, oldest first."""
        before = recent[::-1][: self.settings.window]
        known = before < len(self._row)
        weights: F64 = self.settings.order_decay ** np.arange(len(before), dtype=np.float64)
        return self._step(before[known], weights[known], size)

    def walked(self, scores: F32) -> F32:
        """(size,) where a second step leads, from one-step scores (size,)."""
        size, how = len(scores), self.settings
        self._reserve(size)
        column = ((1 + self._column[:size]) ** -how.popularity_power).astype(np.float32)
        return walked(scores, self.counts, self._row, column, how.row_power)

    def bytes_used(self) -> int:
        """Bytes of counts and sums."""
        return self.counts.keys.nbytes + self.counts.weights.nbytes + self._row.nbytes + self._column.nbytes

    def _step(self, items: I32, weights: F64, size: int) -> F32:
        how, found = self.settings, np.zeros(size, np.float32)
        if len(items):
            heads = weights / (1 + self._row[items]) ** how.row_power
            cells = self.counts.keys[items].reshape(-1) + 1  # a free slot has key -1 and weighs nothing
            parts = (self.counts.weights[items] * heads[:, None]).reshape(-1)
            found += np.bincount(cells, parts, size + 1)[1 : size + 1].astype(np.float32)
            some = min(size, len(self._column))
            found[:some] /= ((1 + self._column[:some]) ** how.popularity_power).astype(np.float32)
        return found

    def _reserve(self, items: int) -> None:
        size = len(self._row)
        if items > size:
            more = max(items, 2 * size) - size
            self._row = np.append(self._row, np.zeros(more))
            self._column = np.append(self._column, np.zeros(more))
            self.counts.reserve(size + more)


def walked(
    scores: F32, followers: TopLists, row_sums: F64, column: F32, row_power: float, most: int = WALK_FROM
) -> F32:
    """A second step from one-step scores (I,): from the `most` best, along `followers`, with the sums of rows (I,) and
    what a column is multiplied by (I,)."""
    size = len(scores)
    best = np.flatnonzero(scores > 0)  # a partition among many equal zeros would take a hundred times as long
    if len(best) > most:
        best = best[np.argpartition(-scores[best], most - 1)[:most]]
    if not len(best):
        return np.zeros(size, np.float32)
    heads = scores[best] / float(scores[best].sum()) / (1 + row_sums[best]) ** row_power
    keys = followers.keys[best]
    held = (keys >= 0) & (keys < size)
    parts = (followers.weights[best] * heads[:, None])[held]
    found: F32 = np.bincount(keys[held], parts, size).astype(np.float32) * column
    return found
