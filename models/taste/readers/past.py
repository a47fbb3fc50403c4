"""A reader's past as what is learnt from choices needs it: the positive events that are remembered. NumPy alone."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.taste import actions
from models.taste.readers.users import UserRows

I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Past:
    """A reader by number, and the positive events that are remembered."""

    reader: int
    items: I32  # oldest first; repeats stay
    times_ms: I64

    @property
    def at_ms(self) -> int:
        """Of the newest event; 0 where there is none."""
        return int(self.times_ms[-1]) if len(self.times_ms) else 0


def pasts_of(users: UserRows, rows: I32, anonymous: Bools | None = None) -> list[Past]:
    """Of readers by row (B,), from their rings; nothing of those who are `anonymous` (B,)."""
    items, kinds, at_ms = users.recent(rows, users.ring)
    items, kinds, at_ms = items[:, ::-1], kinds[:, ::-1], at_ms[:, ::-1]
    kept = actions.is_positive(kinds) & (items > 0)
    if anonymous is not None:
        kept[anonymous] = False
    return [Past(row, items[nth, kept[nth]], at_ms[nth, kept[nth]]) for nth, row in enumerate(rows.tolist())]


def came(
    users: UserRows, rows: I32, items: I32, kinds: I8, at_ms: I64, applied: Bools
) -> Iterator[tuple[Past, int, int]]:
    """Of n events in their order that were just folded, those that say something: the reader's past before, the item,
    its time. Who takes something back among them is passed over: the ring does not tell what was when."""
    good = applied & actions.is_positive(kinds) & (items > 0)
    undoes = np.unique(rows[applied & (kinds == actions.UNDO)])
    places = np.flatnonzero(good & ~np.isin(rows, undoes))
    if not len(places):
        return
    distinct, back, counts = np.unique(rows[places], return_inverse=True, return_counts=True)
    pasts, left = pasts_of(users, distinct), counts.tolist()
    for place, reader in zip(places.tolist(), back.tolist(), strict=True):
        past, stop = pasts[reader], max(len(pasts[reader].items) - left[reader], 0)
        left[reader] -= 1
        yield Past(past.reader, past.items[:stop], past.times_ms[:stop]), int(items[place]), int(at_ms[place])
