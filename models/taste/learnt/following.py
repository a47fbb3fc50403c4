"""What follows a visit's last items, visits like it, and what is chosen in minutes, hours and days. NumPy alone.

    next, ... pair    what directly followed the last item, the one before, both (`models.taste.learnt.contexts`)
    alike, ... after  visits like this one (`models.taste.learnt.visits`)
    minutes, ... days what is chosen now, by half-lives in time

And of each item how new, how quiet and how common it is. It learns from choices alone, one by one, and is bounded.
"""

import numpy as np
from numpy.typing import NDArray

from models.taste.learnt.contexts import NAMES as CONTEXTS
from models.taste.learnt.contexts import Contexts
from models.taste.learnt.visits import MAX_VISITS, Visits
from models.taste.readers.past import Past

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

HALF_LIVES_S = (600.0, 3 * 3600.0, 86_400.0)
NAMES = (*CONTEXTS, "alike", "fresh", "after", "minutes", "hours", "days")
OF_ITEM = ("new", "quiet", "common")


class Following:
    """Over items by number, below a bound; it grows as they come. Not thread-safe."""

    def __init__(self, max_items: int, max_visits: int = MAX_VISITS) -> None:
        self._contexts, self._visits = Contexts(max_items), Visits(max_items, max_visits)
        self._lately: F64 = np.zeros((len(HALF_LIVES_S), 64))
        self._lately_ms = 0
        self._first_ms: I64 = np.full(64, -1, np.int64)
        self._last_ms: I64 = np.zeros(64, np.int64)
        self._times: I64 = np.zeros(64, np.int64)

    def learn(self, past: Past, item: int, at_ms: int) -> None:
        """A reader with this past came to `item`."""
        self._reserve(item + 1)
        self._contexts.learn(past.items, item)
        self._visits.learn(past.reader, item, at_ms)
        gone_s = max(at_ms - self._lately_ms, 0) / 1000
        self._lately *= np.exp2(-gone_s / np.array(HALF_LIVES_S))[:, None]
        self._lately[:, item] += 1
        self._lately_ms = max(at_ms, self._lately_ms)
        self._times[item] += 1
        self._first_ms[item] = at_ms if self._first_ms[item] < 0 else self._first_ms[item]
        self._last_ms[item] = at_ms

    def scores(self, past: Past, at_ms: int, size: int) -> F32:
        """(len(NAMES), size) for a reader with this past."""
        self._reserve(size)
        visits = self._visits.scores(past.items, at_ms, size, past.reader)
        visits[:2] /= (1 + self._times[:size]) ** np.float32(0.2)
        gone_s = max(at_ms - self._lately_ms, 0) / 1000
        decay = np.exp2(-gone_s / np.array(HALF_LIVES_S))
        lately = (self._lately[:, :size] * decay[:, None]).astype(np.float32)
        return np.concatenate([self._contexts.scores(past.items, size), visits, lately])

    def of_items(self, items: I64, at_ms: int) -> F32:
        """(N, len(OF_ITEM)) how new, how quiet and how common items (N,) below the last size asked for are."""
        found = np.zeros((len(items), len(OF_ITEM)), np.float32)
        known = self._first_ms[items] >= 0
        found[:, 0] = np.log1p(np.maximum(at_ms - self._first_ms[items], 0) / 1000) / 15 * known
        found[:, 1] = np.log1p(np.maximum(at_ms - self._last_ms[items], 0) / 1000) / 15 * known
        found[:, 2] = np.log1p(self._times[items]) / 8
        return found

    def forget(self, reader: int) -> None:
        """A reader who left: the visit goes, counts that name nobody stay."""
        self._visits.forget(reader)

    def bytes_used(self) -> int:
        """About: arrays, and what Python holds for counted contexts."""
        clocks = self._lately.nbytes + self._first_ms.nbytes + self._last_ms.nbytes + self._times.nbytes
        return clocks + self._visits.bytes_used() + self._contexts.bytes_used()

    def _reserve(self, items: int) -> None:
        size = len(self._times)
        if items <= size:
            return
        more = max(items, 2 * size) - size
        self._lately = np.concatenate([self._lately, np.zeros((len(HALF_LIVES_S), more))], axis=1)
        self._first_ms = np.append(self._first_ms, np.full(more, -1, np.int64))
        self._last_ms = np.append(self._last_ms, np.zeros(more, np.int64))
        self._times = np.append(self._times, np.zeros(more, np.int64))
