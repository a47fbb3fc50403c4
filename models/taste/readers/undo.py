"""`undo` takes an event back: the reader's last one of that item which the ring still holds.

The event leaves the ring, and its weight is added once more with the other sign at its own time: forward decay gives
the late addition the very factor that the event has by now, so the sums are those of a history without it, to
rounding. An undo enters nothing itself. One that finds nothing (never there, pushed out of the ring, taken back before,
an impression, an item beyond the index's bound) changes no sum.

After an undo the item is hidden no longer (`models.taste.readers.hidden`), if what was taken back had hidden it, or
nothing of it was left in the ring, and no other event that hides it stands there.

What the reader came to after the event had it among the items before: these pairs are parted again (`Parted`), as far
as the ring still holds what was come to. Others that stood farther back stay a place too far: nobody sends them anew.

The steps are in `models.taste.readers.steps`; here is what they tell.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.taste import actions

I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Undone:
    """Events taken back: m of n given ones are an undo that found something."""

    places: I64  # (m,) of the undo among the events given, ascending
    kinds: I8  # (m,) of the event taken back
    weights: F32  # (m,) as it was added, in steps of 1/256
    at_ms: I64  # (m,)


@dataclass(frozen=True, slots=True)
class Parted:
    """p items to which an item led that was taken back: each once an undo, since the item side takes one word of it.
    Come to several times, those of the first one's weight count as if at its time."""

    places: I64  # (p,) of the undo among the events given, ascending
    items: I32  # (p,) come to
    back: I64  # (p,) where the item stood that was taken back: bit 0 right before, bit 1 before that, ...
    weights: F32  # (p,) of the event that came to it, above 0
    at_ms: I64  # (p,) of that event


UNPARTED = Parted(
    np.empty(0, np.int64),
    np.empty(0, np.int32),
    np.empty(0, np.int64),
    np.empty(0, np.float32),
    np.empty(0, np.int64),
)
NOTHING = Undone(np.empty(0, np.int64), np.empty(0, np.int8), np.empty(0, np.float32), np.empty(0, np.int64))


def taken_back(undos: I64) -> Undone:
    """Of all applied undos (m, 5), as `steps.Found` has them."""
    if not len(undos):
        return NOTHING
    ordered = undos[undos[:, 0].argsort()]
    places, kinds, sizes, at_ms, _ = ordered[ordered[:, 1] >= 0].T
    kinds = kinds.astype(np.int8)
    return Undone(places, kinds, actions.signed(kinds, sizes.astype(np.uint16)), at_ms)


def parted(pairs: I64) -> Parted:
    """Of pairs (p, 5), as `steps.Found` has them."""
    if not len(pairs):
        return UNPARTED
    places, items, back, sizes, at_ms = pairs[pairs[:, 0].argsort(kind="stable")].T
    return Parted(places, items.astype(np.int32), back, (sizes / actions.STEPS).astype(np.float32), at_ms)
