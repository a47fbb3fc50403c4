"""Waiting units of one kind, the first of them sorted by length, and the best run of neighbours in it. Pure.

Length and arrival of a unit make one number; those lie sorted in an array, so that choosing a batch costs a few NumPy
calls however many wait, and putting a unit in costs an append.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.inference.budget import Budget
from models.inference.latency import Latency, Line
from models.types import Unit

T = TypeVar("T")

# What starting a forward costs, as a share of the budget: weighs a full batch against an unpadded one. On
# that feed 0 gives half-empty batches (5 % padding), 0.05 fills them to 84 % (5 %), 0.2 to 92 % (7 %).
_START_SHARE = 0.05
_REFILLED_AT = 0.75  # of a full window
_ARRIVAL_BITS = 40  # of a key; what is left holds lengths
_ARRIVALS = (1 << _ARRIVAL_BITS) - 1
_MOST_LENGTH = 1 << (62 - _ARRIVAL_BITS)
NEVER = float("inf")


@dataclass(slots=True)  # frozen ones take twice as long to make, and there is one an item
class Waiting(Generic[T]):
    """One unit in a queue, with whatever its owner needs to find it again."""

    unit: Unit
    ticket: T
    arrived_s: float
    due_s: float = NEVER


class Window(Generic[T]):
    """At most `window_units` of what waits, sorted by length, then arrival; what came after them waits behind."""

    def __init__(self, window_units: int) -> None:
        self._most = window_units
        self._members: dict[int, Waiting[T]] = {}  # arrival number -> all that waits, in order of arrival
        self._keys: NDArray[np.int64] = np.empty(0, np.int64)  # sorted: length, arrival
        self._behind: deque[int] = deque()  # keys, in order of arrival
        self._seen = 0
        self._oldest = 1  # arrival number of the first that waits, or of one that is gone before it
        self.total_length = 0  # of all that wait

    def __len__(self) -> int:
        """All that wait, those behind too."""
        return len(self._members)

    def __iter__(self) -> Iterator[Waiting[T]]:
        return iter(self._members.values())

    def put(self, waiting: Sequence[Waiting[T]]) -> None:
        """Behind all that came before them. Raises ValueError for a length that no array holds."""
        members, behind, seen, total = self._members, self._behind, self._seen, 0
        for one in waiting:
            length = one.unit.length
            if not 0 <= length < _MOST_LENGTH:
                raise ValueError(f"a unit of length {length}")
            seen += 1
            members[seen] = one
            behind.append(length << _ARRIVAL_BITS | seen)
            total += length
        self._seen = seen
        self.total_length += total

    def first(self) -> Waiting[T]:
        """The unit that came first. Raises IndexError when empty."""
        return self._members[self._first_arrival()]

    def cut(self, budget: Budget, latency: Latency, within_s: float) -> tuple[Waiting[T], ...]:
        """Take out the best run around the oldest, shortest first: within the budget, and taking no longer than
        `within_s` as far as that is known. Raises IndexError when empty."""
        # Not at every batch: to sort costs more than to choose. Who is sorted came before all who are behind.
        if self._behind and len(self._keys) <= self._most * _REFILLED_AT:
            self._refill()
        arrival = self._first_arrival()
        length = self._members[arrival].unit.length
        keys = self._keys
        oldest = int(keys.searchsorted(length << _ARRIVAL_BITS | arrival))
        most = budget.fits(length)
        below = max(0, oldest + 1 - most)  # no run around the oldest reaches further down, nor further up
        near = keys[below : oldest + most] >> _ARRIVAL_BITS
        start, end = _best_run(near, oldest - below, budget, latency, within_s)
        start, end = start + below, end + below
        arrivals = (keys[start:end] & _ARRIVALS).tolist()
        run = tuple(map(self._members.pop, arrivals))
        self.total_length -= sum([one.unit.length for one in run])
        self._keys = np.concatenate((keys[:start], keys[end:]))
        return run

    def _first_arrival(self) -> int:
        if not self._members:
            raise IndexError("nothing waits")
        arrival = self._oldest
        while (
            arrival not in self._members
        ):  # a step for each that has left: a dict would walk over all of them
            arrival += 1
        self._oldest = arrival
        return arrival

    def _refill(self) -> None:
        behind = self._behind
        come = [behind.popleft() for _ in range(min(self._most - len(self._keys), len(behind)))]
        self._keys = np.concatenate((self._keys, np.array(come, np.int64)))
        self._keys.sort(kind="stable")  # most of it is sorted already


def _best_run(
    lengths: NDArray[np.int64], oldest: int, budget: Budget, latency: Latency, within_s: float
) -> tuple[int, int]:
    """Start and end of the run of neighbours around the oldest unit that does most real work for its cost, and takes
    no longer than `within_s` as far as that is known. `lengths` (n,), sorted.

    For each possible longest unit the run reaches as far down as the budget lets it; the winner then sheds
    units at its short end while that pays. O(window), in NumPy.
    """
    sums = np.empty(len(lengths) + 1, np.int64)
    sums[0] = 0
    lengths.cumsum(out=sums[1:])
    started = budget.batch_cost * _START_SHARE
    longest = lengths[oldest:]
    ends = np.arange(oldest + 1, len(lengths) + 1)
    starts = np.maximum(ends - _fits(longest, budget, latency, within_s), 0)
    reach = max(1, int(starts.searchsorted(oldest, "right")))  # longer ones fit even fewer
    ends, starts, longest = ends[:reach], starts[:reach], longest[:reach]
    worth = (sums[oldest + 1 : oldest + 1 + reach] - sums[starts]) / (longest * (ends - starts) + started)
    best = int(worth.argmax())
    start, end = min(int(starts[best]), oldest), oldest + 1 + best
    real, length = int(sums[end]), int(longest[best])
    while start < oldest:
        now = (real - int(sums[start])) / (length * (end - start) + started)
        if (real - int(sums[start + 1])) / (length * (end - start - 1) + started) <= now:
            break
        start += 1
    return start, end


def _fits(longest: NDArray[np.int64], budget: Budget, latency: Latency, within_s: float) -> NDArray[np.int64]:
    """How many units each batch may have, by the length of its longest."""
    if within_s == NEVER:
        fitting = budget.batch_cost // np.maximum(longest, 1)
        clipped: NDArray[np.int64] = np.minimum(np.maximum(fitting, 1), budget.max_units)
        return clipped

    def fits(length: int) -> int:
        line: Line | None = latency.line(length)
        return (
            budget.fits(length) if line is None else budget.fits(length, max(0.0, line.cost_within(within_s)))
        )

    return np.minimum.accumulate(np.fromiter(map(fits, longest.tolist()), np.int64, len(longest)))
