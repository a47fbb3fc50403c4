"""User-user cosine collaborative filtering, exact and incremental, without a users x users table. NumPy alone.

The classic formula, with r_u the values that reader u gave to items and n_u = |r_u|:

    sim(u, v) = r_u . r_v / (n_u n_v)          pred(u, i) = sum over all v, u included, of sim(u, v) r_vi

Put the sum over readers inside and it is one row product with a table of items x items:

    pred(u, i) = 1/n_u * sum_j r_uj G[j, i]    G = sum_v r_v r_v^T / n_v

An event of v changes r, n into r', n', and row j of G by r'_j r'_i / n' - r_j r_i / n (`deltas`). Rows are additive
over readers, so that deltas may travel by item and be summed where the item lives; a value that leaves the bounded
profile, an `undo` and a `forget` are deltas like any other.

Exact means: values are multiples of 1/256 (so n is the root of an exact sum) and a reader's part of a cell is rounded
once, to a multiple of 2**-40, as an integer. Sums of integers have no order: any order of events, any cut, any way
there gives the same bits, and who is forgotten leaves nothing. The rounding costs a cell at most 2**-41 a reader. A
cell holds up to 2**23, which is 1.6 million readers who gave 5 to both items.

With `raters`, the table is B = sum_v r_vj [r_vi != 0] / n_v instead: the same product then is the sum of sim(u, v) over
those who have item i, and pred / that sum is a mean of their values, an estimate of a rating (values above 0).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import BadInput

F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

SCALE = 2.0**40
MAX_VALUE = 255.0
MAX_ITEMS = 8192  # items x items cells of 512 MB
_STEP = 256.0


@dataclass(frozen=True, slots=True)
class Profile:
    """What a reader gave to K items, the one set longest ago first. K is at most the ring of `with_value`."""

    items: I32  # (K,) distinct
    values: F64  # (K,) multiples of 1/256, not 0, at most 255 in size

    def length(self) -> float:
        """n = |r|, the root of an exact sum."""
        return math.sqrt(float(self.values @ self.values))


NOBODY = Profile(np.empty(0, np.int32), np.empty(0, np.float64))
"""A reader of whom nothing is known; what `forget` leaves."""


@dataclass(frozen=True, slots=True)
class Deltas:
    """What one change of a profile adds to the table: row items[j] gets cells[j, i] at items[i], in units of 2**-40."""

    items: I32  # (K,)
    cells: I64  # (K, K)


def of(items: I32, values: F64) -> Profile:
    """A profile of distinct items (K,). Values are rounded to 1/256; items of value 0 are left out.

    Raises BadInput("bad_weight") for one that is not finite or over MAX_VALUE in size.
    """
    if not np.isfinite(values).all() or (np.abs(values) > MAX_VALUE).any():
        raise BadInput("bad_weight", f"a value is not finite or over {MAX_VALUE:.0f}")
    rounded = np.rint(values * _STEP) / _STEP
    kept = rounded != 0
    return Profile(items[kept].astype(np.int32), rounded[kept])


def latest(history: I32, ring: int, value: float = 1.0) -> Profile:
    """The last `ring` distinct items of a history (oldest first, repeats stay), all with the same value: what
    `with_value` makes of it event by event.
    """
    turned = history[::-1]
    _, newest = np.unique(turned, return_index=True)
    kept = turned[np.sort(newest)[:ring]][::-1]
    return of(kept, np.full(len(kept), value))


def with_value(before: Profile, item: int, value: float, ring: int) -> Profile:
    """The item gets a value and is the newest; of more than `ring` items the oldest leave. Raises BadInput as `of`."""
    others = before.items != item
    items = np.append(before.items[others], np.int32(item))
    return of(items[-ring:], np.append(before.values[others], value)[-ring:])


def without(before: Profile, item: int) -> Profile:
    """`undo`: the item has no value any more."""
    others = before.items != item
    return Profile(before.items[others], before.values[others])


def deltas(before: Profile, after: Profile, raters: bool = False) -> Deltas:
    """What a reader's change adds to the table. K is the number of items in either profile: |ring|**2 cells."""
    items = np.union1d(before.items, after.items).astype(np.int32)
    return Deltas(items, _part(after, items, raters) - _part(before, items, raters))


def _part(profile: Profile, items: I32, raters: bool) -> I64:
    """A reader's whole part of the table, at ascending `items` (K,), which hold those of the profile: (K, K)."""
    if not len(profile.items):
        return np.zeros((len(items), len(items)), np.int64)
    row = np.zeros(len(items))
    row[np.searchsorted(items, profile.items)] = profile.values
    other = (row != 0).astype(np.float64) if raters else row
    return np.rint(np.outer(row, other) / profile.length() * SCALE).astype(np.int64)


class CosineRows:
    """The table G (or B): row by item index, grown by doubling up to `max_items`. Not thread-safe.

    `beyond` counts deltas with items over the bound, whose cells were dropped: the cells of the others stay exact.
    """

    def __init__(self, max_items: int = MAX_ITEMS) -> None:
        self.max_items = max_items
        self.beyond = 0
        self._cells: I64 = np.zeros((min(256, max_items), min(256, max_items)), np.int64)

    def __len__(self) -> int:
        return len(self._cells)

    def apply(self, change: Deltas) -> None:
        """Add deltas, in any order."""
        items, cells = change.items, change.cells
        if len(items) and int(items.max()) >= self.max_items:
            held = items < self.max_items
            items, cells = items[held], cells[np.ix_(held, held)]
            self.beyond += 1
        if len(items):
            self._reserve(int(items.max()) + 1)
            self._cells[items[:, None], items] += cells

    def scores(self, profile: Profile, size: int) -> F64:
        """pred(u, i) of items 0..size-1 (size,): 0 for a reader of whom nothing is known."""
        found = np.zeros(size)
        known = profile.items < len(self._cells)
        if known.any():
            rows = self._cells[profile.items[known], : min(size, len(self._cells))]
            sums = profile.values[known] @ rows.astype(np.float64)
            found[: len(sums)] = sums / (SCALE * profile.length())
        return found

    def score(self, profile: Profile, item: int) -> float:
        """pred(u, i) of one item."""
        if item >= len(self._cells):
            return 0.0
        return self._weighed(profile, np.full(len(profile.items), item))

    def total(self, profile: Profile) -> float:
        """With `raters`: the sum of sim(u, v) over all readers, who are those that have any of the profile's items."""
        return self._weighed(profile, profile.items)

    def _weighed(self, profile: Profile, columns: NDArray[np.integer]) -> float:
        known = profile.items < len(self._cells)
        if not known.any():
            return 0.0
        cells = self._cells[profile.items[known], columns[known]]
        return float(profile.values[known] @ cells) / (SCALE * profile.length())

    def row(self, item: int) -> F64:
        """G[item] of the items held (len,)."""
        found: F64 = self._cells[item] / SCALE
        return found

    def bytes_used(self) -> int:
        """Bytes of the table."""
        return self._cells.nbytes

    def _reserve(self, items: int) -> None:
        size = len(self._cells)
        if items > size:
            grown = np.zeros((min(max(items, 2 * size), self.max_items),) * 2, np.int64)
            grown[:size, :size] = self._cells
            self._cells = grown
