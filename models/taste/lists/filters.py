"""The one mask of a list: whatever a source proposes, a barred item scores -inf and is never taken. NumPy alone.

Bars come as pairs (place in the batch, item), from whatever rule, and as items barred for everybody. Popular items and
the exploration slot read the same masked scores, so a rule holds for every source or for none.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled
from models.taste import actions
from models.taste.items.catalogue import Catalogue
from models.taste.readers.users import UserRows

F32 = NDArray[np.float32]
I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

NO_PAIRS: I64 = np.empty((0, 2), np.int64)
_HIDING = actions.is_hiding(np.arange(len(actions.KINDS), dtype=np.int8))
_ANY = np.ones_like(_HIDING)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What one request of each of B readers rules out, beside what the ring says. Pairs name a place in the batch."""

    excluded: I64 = field(default_factory=lambda: NO_PAIRS)  # (E, 2) place, item
    blocked: I64 = field(default_factory=lambda: NO_PAIRS)  # (F, 2) place, author; a reader's own uploads too

    def part(self, start: int, stop: int) -> "Wishes":
        """Those of the places start..stop, counted from start."""
        if not len(self.excluded) and not len(self.blocked):
            return self
        return Wishes(*(_shifted(pairs, start, stop) for pairs in (self.excluded, self.blocked)))


def had(users: UserRows, rows: I32, repeat: bool, anonymous: Bools | None = None) -> I64:
    """Pairs (P, 2) that the rings of readers by row (B,) rule out, of those who are `anonymous` nothing: all that is
    there or, where items may be listed again, what was hidden or reported."""
    pairs = np.empty((len(rows) * users.ring, 2), np.int64)
    counts = _HIDING if repeat else _ANY
    spared = np.zeros(len(rows), np.bool_) if anonymous is None else anonymous
    rings = (users.ring_items, users.ring_kinds, users.pushed)
    return pairs[: _had(np.ascontiguousarray(rows, np.int32), *rings, counts, spared, pairs)]


@compiled(
    "int64(int32[::1], int32[:, ::1], int8[:, ::1], int64[::1], boolean[::1], boolean[::1], int64[:, ::1])"
)
def _had(
    rows: I32, ring_items: I32, ring_kinds: I8, pushed: I64, counts: Bools, spared: Bools, pairs: I64
) -> int:
    """How many pairs there are."""
    n = 0
    for place in range(len(rows)):
        row = rows[place]
        if spared[place]:
            continue
        for slot in range(min(pushed[row], ring_items.shape[1])):
            if counts[ring_kinds[row, slot]]:
                pairs[n, 0], pairs[n, 1] = place, ring_items[row, slot]
                n += 1
    return n


def hidden(users: UserRows, rows: I32, catalogue: Catalogue, anonymous: Bools | None) -> tuple[I64, I64]:
    """Pairs (P, 2) of what readers by row hid for good: their items, and all of their authors'. Of readers who are
    `anonymous` nothing."""
    items, by_place = users.hidden.pairs(rows)
    blocked = NO_PAIRS
    if by_place and catalogue.authors:
        places = np.repeat([place for place, _ in by_place], [len(some) for _, some in by_place])
        known = catalogue.authors_of(np.concatenate([some for _, some in by_place]))
        blocked = np.stack([places, known.astype(np.int64)], axis=1)
    if anonymous is not None and (len(items) or len(blocked)):
        items, blocked = items[~anonymous[items[:, 0]]], blocked[~anonymous[blocked[:, 0]]]
    return items, of_authors(blocked, catalogue)


def of_authors(blocked: I64, catalogue: Catalogue) -> I64:
    """Pairs (P, 2) of the items of blocked authors (F, 2); an item of an unknown one is never blocked."""
    if not len(blocked):
        return NO_PAIRS
    blocked = blocked[blocked[:, 1] >= 0]
    order = catalogue.by_author
    known = catalogue.author[order]
    begin = np.searchsorted(known, blocked[:, 1], "left")
    count = np.searchsorted(known, blocked[:, 1], "right") - begin
    nth = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    return _pairs(np.repeat(blocked[:, 0], count), order[np.repeat(begin, count) + nth])


def too_old(published_ms: I64, now_ms: int, max_age_ms: int) -> Bools:
    """Items (I,) older than that; 0 as a time is unknown: never too old. `max_age_ms` 0: none is."""
    if not max_age_ms:
        return np.zeros(len(published_ms), np.bool_)
    old: Bools = (published_ms > 0) & (published_ms < now_ms - max_age_ms)
    return old


def mask(scores: F32, everywhere: I64 | Bools, pairs: tuple[I64, ...]) -> None:
    """Set what is barred in `scores` (B, I) to -inf. Pairs may name items beyond I: they are not there to be listed."""
    scores[:, everywhere] = -np.inf
    size = scores.shape[1]
    for one in pairs:
        if len(one):
            place, item = one.T
            cells = place * size + item
            if item.min() < 0 or item.max() >= size:
                cells = cells[(item >= 0) & (item < size)]
            scores.reshape(-1)[cells] = -np.inf


def _pairs(places: I64, values: NDArray[np.integer]) -> I64:
    found = np.empty((len(places), 2), np.int64)
    found[:, 0], found[:, 1] = places, values
    return found


def _shifted(pairs: I64, start: int, stop: int) -> I64:
    if not len(pairs):
        return pairs
    mine = pairs[(pairs[:, 0] >= start) & (pairs[:, 0] < stop)]
    shifted: I64 = mine - np.array([start, 0])
    return shifted
