"""One reader's state in plain Python, event by event: the oracle of `models.taste.readers.steps`.

Shares the rules of decay with the product (`decay.snap`, `frames`, `scale_of`, on one event each) and nothing else.
"""

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from models.taste import actions, decay
from models.taste.readers.layout import KEPT

Entry = tuple[int, int, int, int]
"""Item, kind, time, size of the weight in steps of 1/256."""


@dataclass(frozen=True)
class Event:
    item: int
    kind: int
    weight: float
    at_ms: int
    offset: int
    id: int


@dataclass
class Told:
    """What became of one event."""

    applied: bool = False
    duplicate: bool = False
    previous: list[int] = field(default_factory=list)  # without padding; -1 for one that is not positive
    taken: Entry | None = None
    shown_again: bool = False
    in_vain: bool = False
    parted: dict[int, tuple[int, int, int]] = field(default_factory=dict)  # item: bits, size, time


class PlainReader:
    def __init__(self, half_lives_ms: tuple[int, ...], ring: int, dim: int) -> None:
        self._half_lives = np.array(half_lives_ms, np.int64)
        self._size = ring
        self.fence, self.newest_at_ms = -1, 0
        self._highest = -1  # offset seen, of a duplicate too
        self.ids: deque[int] = deque(maxlen=KEPT)
        self.ring: list[Entry] = []
        self.hidden: list[int] = []  # items, oldest first
        self.refs = np.full(len(half_lives_ms), -1, np.int64)
        self.bank = np.zeros((len(half_lives_ms), dim + 2), np.float32)

    def fold(self, event: Event, code: np.ndarray, window: int) -> Told:  # type: ignore[type-arg]
        if event.offset <= self._highest:
            return Told()
        self._highest = event.offset
        if event.id and event.id in self.ids:
            return Told(duplicate=True)
        told = Told(applied=True)
        (weight,) = (
            decay.snap(np.array([event.weight], np.float32)) if event.item else np.zeros(1, np.float32)
        )
        gross, at_ms = abs(weight), event.at_ms
        if event.kind == actions.UNDO:
            weight, gross, at_ms = self._undo(event, told, window)
        else:
            told.previous = self._before(len(self.ring), window)
            if event.kind != actions.IMPRESSION:
                self.ring.append((event.item, event.kind, event.at_ms, round(256 * float(gross))))
                del self.ring[: -self._size]
            if _hides(event.kind) and event.item and event.item not in self.hidden:
                self.hidden.append(event.item)
        self._add(at_ms, np.float32(weight), np.float32(gross), code)
        self.fence, self.newest_at_ms = event.offset, max(self.newest_at_ms, event.at_ms)
        self.ids.append(event.id)
        return told

    def _undo(self, event: Event, told: Told, window: int) -> tuple[float, float, int]:
        """Weight, what the gross sum rises by, time."""
        places = [n for n, entry in enumerate(self.ring) if entry[0] == event.item != 0]
        if not places:
            told.shown_again = self._show(event.item)
            told.in_vain = not told.shown_again
            return 0.0, 0.0, event.at_ms
        nth = places[-1]
        told.taken = _, kind, at_ms, size = self.ring.pop(nth)
        if _hides(kind) and not any(_hides(one) for item, one, _, _ in self.ring if item == event.item):
            self._show(event.item)
        told.previous = self._before(nth, window)
        for back, (item, came, then_ms, weighed) in enumerate(self.ring[nth : nth + window] * _speaks(kind)):
            if _speaks(came) and weighed and item not in (0, event.item):
                bits, first, since_ms = told.parted.get(item, (0, weighed, then_ms))
                if weighed == first:
                    told.parted[item] = (bits | 1 << back, first, since_ms)
        return (-size if _speaks(kind) else size) / 256, -size / 256, at_ms

    def _show(self, item: int) -> bool:
        if item not in self.hidden:
            return False
        self.hidden.remove(item)
        return True

    def _before(self, end: int, window: int) -> list[int]:
        last = self.ring[max(0, end - window) : end][::-1]
        return [item if _speaks(kind) else -1 for item, kind, _, _ in last]

    def _add(self, at_ms: int, weight: np.float32, gross: np.float32, code: np.ndarray) -> None:  # type: ignore[type-arg]
        whole, scaled = decay.frames(np.array([at_ms]), np.array([weight]), self._half_lives)
        newest = np.maximum(whole[:, 0], self.refs)
        own = scaled[:, 0] * decay.scale_of(newest - whole[:, 0])
        self.bank *= decay.scale_of(newest - self.refs)[:, None]
        self.bank[:, :-2] += own[:, None] * code
        self.bank[:, -2] += own
        self.bank[:, -1] += own if (weight < 0) == (gross < 0) else -own
        self.refs = newest


def _speaks(kind: int) -> bool:
    return actions.KINDS[kind] in ("click", "dwell", "complete", "like", "save", "share", "follow")


def _hides(kind: int) -> bool:
    return actions.KINDS[kind] in ("hide", "report")
