"""What is chosen now, and what is chosen at a reader's n-th event: counts that need no reader. NumPy alone.

The half-life of `recent` is in events, not in time: in a quiet night nothing is forgotten. `places` keeps apart what
newcomers and old readers choose, whom a site shows different pages.
"""

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

PLACES = 12
HALF_LIFE_EVENTS = 700.0
_FAR = 2.0**40  # weight of a new event at which all are scaled down


class Trends:
    """recent (I,) and places (PLACES, I) float64, grown as items come."""

    def __init__(self, items: int = 64, half_life_events: float = HALF_LIFE_EVENTS) -> None:
        """Raises ValueError for a half-life that is not above 0."""
        if not half_life_events > 0:
            raise ValueError("a half-life must be above 0")
        self._grow = 2.0 ** (1 / half_life_events)
        self._now = 1.0
        self._recent: F64 = np.zeros(items)
        self._places: F64 = np.zeros((PLACES, items))

    def learn(self, had: int, item: int) -> None:
        """A reader of `had` events before took `item`."""
        size = len(self._recent)
        if item >= size:
            more = max(item + 1, 2 * size) - size
            self._recent = np.append(self._recent, np.zeros(more))
            self._places = np.concatenate([self._places, np.zeros((PLACES, more))], axis=1)
        self._now *= self._grow
        if self._now > _FAR:
            self._recent /= self._now
            self._now = 1.0
        self._recent[item] += self._now
        self._places[place(had), item] += 1

    def recent(self, size: int) -> F32:
        """(size,) decayed counts as of the last event."""
        return _cut(self._recent / self._now, size)

    def bytes_used(self) -> int:
        """Bytes of the counts."""
        return self._recent.nbytes + self._places.nbytes

    def at_place(self, had: int, size: int) -> F32:
        """(size,) counts of what readers chose after about as many events."""
        return _cut(self._places[place(had)], size)


def place(had: int) -> int:
    """Which of PLACES a reader of `had` events is at: half-octaves."""
    return min(PLACES - 1, max(0, int(2 * np.log2(had + 1)) - 2))


def _cut(values: F64, size: int) -> F32:
    found = np.zeros(size, np.float32)
    found[: min(size, len(values))] = values[:size]
    return found
