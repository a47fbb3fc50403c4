"""`undo` takes an event back: the reader's last one of that item which the ring still holds. NumPy alone.

The event leaves the ring, and its weight is added once more with the other sign at its own time: forward decay gives
the late addition the very factor that the event has by now, so the sums are those of a history without it, to
rounding. An undo enters nothing itself. One that finds nothing (never there, pushed out of the ring, taken back before,
an impression, an item beyond the index's bound) changes no sum.

After an undo the item is hidden no longer (`models.taste.readers.hidden`), if what was taken back had hidden it, or
nothing of it was left in the ring, and no other event that hides it stands there.

What the reader came to after the event had it among the items before: these pairs are parted again (`Parted`), as far
as the ring still holds what was come to. Others that stood farther back stay a place too far: nobody sends them anew.

What an undo finds depends on what came before it, so readers with one in a batch are walked event by event; it is rare.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.taste import actions
from models.taste.index import UNKNOWN

I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
F32 = NDArray[np.float32]
Bools = NDArray[np.bool_]

Entry = tuple[int, int, int, int]
"""Of a ring: item, kind, at_ms, size of the weight."""


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


@dataclass(slots=True)
class Events:
    """Columns of n events, grouped by reader, in order."""

    items: I32
    kinds: I8
    weights: F32
    at_ms: I64


class Walk:
    """Goes through readers' events one by one, with the ring as it stands before each."""

    def __init__(self, events: Events, ring: int, window: int) -> None:
        n = len(events.items)
        self._events = events
        self._ring = ring
        self._sizes = actions.sizes_of(events.weights)
        self.kinds: I8 = np.full(n, -1, np.int8)  # of the event that an undo takes back, else -1
        self.weights: F32 = events.weights.copy()  # to be added
        self.at_ms: I64 = events.at_ms.copy()  # at these times
        self.before: I32 = np.full(
            (n, window), -1, np.int32
        )  # positive items before each event, or before the undone
        self._parted: list[tuple[int, int, int, float, int]] = []
        self.shows: Bools = np.zeros(n, np.bool_)  # undos after which their item is hidden no longer

    def through(self, entries: list[Entry], start: int, stop: int) -> list[Entry]:
        """One reader's events start..stop after a ring, oldest first; the ring after them."""
        events = self._events
        columns = (events.items, events.kinds, events.at_ms, self._sizes)
        own: list[Entry] = list(zip(*(column[start:stop].tolist() for column in columns), strict=True))
        for place, event in enumerate(own, start):
            item, kind, _, _ = event
            if kind == actions.UNDO:
                self._undo(entries, place, item)
                continue
            self._look_back(entries, place)
            if kind != actions.IMPRESSION:
                entries.append(event)
                del entries[: -self._ring]
        return entries

    def _undo(self, entries: list[Entry], place: int, item: int) -> None:
        self.weights[place] = 0
        nth = next((n for n in range(len(entries) - 1, -1, -1) if entries[n][0] == item), -1)
        if item == UNKNOWN:
            return
        if nth < 0:
            self.shows[place] = True
            return
        _, kind, at_ms, size = entries.pop(nth)
        if _HIDING[kind]:
            self.shows[place] = not any(one[0] == item and _HIDING[one[1]] for one in entries)
        self.kinds[place] = kind
        self.weights[place] = -size * _SIGNS[kind]
        self.at_ms[place] = at_ms
        self._look_back(entries[:nth], place)
        if _POSITIVE[kind]:
            self._part(entries[nth : nth + self.before.shape[1]], place, item)

    def parted(self) -> Parted:
        """What was parted so far, by the places given to `through`."""
        if not self._parted:
            return UNPARTED
        places, items, back, weights, at_ms = zip(*sorted(self._parted), strict=True)
        return Parted(
            np.array(places, np.int64),
            np.array(items, np.int32),
            np.array(back, np.int64),
            np.array(weights, np.float32),
            np.array(at_ms, np.int64),
        )

    def _part(self, later: list[Entry], place: int, gone: int) -> None:
        found: dict[int, tuple[int, int, int]] = {}  # item -> bits, size of the weight, time
        for back, (item, kind, at_ms, size) in enumerate(later):
            if _POSITIVE[kind] and size and item not in (gone, UNKNOWN):
                bits, first, since_ms = found.get(item, (0, size, at_ms))
                if size == first:
                    found[item] = (bits | 1 << back, size, since_ms)
        self._parted += [
            (place, item, bits, size / actions.STEPS, at_ms) for item, (bits, size, at_ms) in found.items()
        ]

    def _look_back(self, entries: list[Entry], place: int) -> None:
        window = self.before.shape[1]
        if window:
            last = entries[-window:][::-1]
            self.before[place, : len(last)] = [item if _POSITIVE[kind] else -1 for item, kind, _, _ in last]


_SIGNS: list[float] = actions.signed(
    np.arange(len(actions.KINDS), dtype=np.int8), np.ones(len(actions.KINDS), np.uint16)
).tolist()
_HIDING: list[bool] = actions.is_hiding(np.arange(len(actions.KINDS), dtype=np.int8)).tolist()
_POSITIVE: list[bool] = actions.is_positive(np.arange(len(actions.KINDS), dtype=np.int8)).tolist()


def parted(parts: list[tuple[I64, Parted]]) -> Parted:
    """All that was parted, in the order of the events: each part with the places of its events among those given."""
    some = [(given, part) for given, part in parts if len(part.places)]
    if not some:
        return UNPARTED
    places = np.concatenate([given[part.places] for given, part in some])
    order = np.argsort(places, kind="stable")
    return Parted(
        places[order],
        np.concatenate([part.items for _, part in some])[order],
        np.concatenate([part.back for _, part in some])[order],
        np.concatenate([part.weights for _, part in some])[order],
        np.concatenate([part.at_ms for _, part in some])[order],
    )


def joined(parts: list[Undone]) -> Undone:
    """All of them, in the order of the events."""
    if not parts:
        return NOTHING
    places = np.concatenate([part.places for part in parts])
    order = np.argsort(places)
    return Undone(
        places[order],
        np.concatenate([part.kinds for part in parts])[order],
        np.concatenate([part.weights for part in parts])[order],
        np.concatenate([part.at_ms for part in parts])[order],
    )
