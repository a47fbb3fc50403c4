"""Which waiting units go to the device together. Pure: no clock, no threads, no torch.

A batch pays for its padding: it costs `longest length x units`. So units wait in a window sorted by length,
and a batch is a run of neighbours in it, its ends wherever they fit best under the task's cost budget. On a
simulated mixed feed (60 % of 5-40 tokens, 25 % of 60-200, 15 % of 256-512; budget 2,048) 5 % of the work is
padding; batches of 32 in order of arrival pad 77 %, the same window cut into fixed batches of 32 pads 25 %.

The planner conserves work: asked by an idle device, it always gives the best batch it has. Invariants:

- every unit put in comes out exactly once;
- no batch costs more than its budget or has more than `max_units`, except that a unit over budget goes alone;
- a batch holds the oldest unit of its queue, so the k-th in a queue leaves within k of that queue's batches;
- of Q queues of one priority, each is served within Q batches; a step of priority is worth `priority_step_s`
  of waiting and no more, so the lowest priority waits a bounded time for the highest;
- where deadlines are set and batch times are learnt, a batch is no larger than its own and the others' deadlines
  allow, and one that would otherwise be missed goes first, but never past what has waited for `AGED_S`. What is late
  already has no say: late work is done all the same, in batches of full size.

There is no bound on what waits here: whoever puts units in keeps one.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.inference.latency import Latency, Line
from models.types import Task, Unit

T = TypeVar("T")

WINDOW_UNITS = 256  # on that feed 64 pad 14 % of the work, 256 5 %, 1,024 1.5 % at twice the time a unit
PRIORITY_STEP_S = 1.0
# What starting a forward costs, as a share of the budget: weighs a full batch against an unpadded one. On
# that feed 0 gives half-empty batches (5 % padding), 0.05 fills them to 84 % (5 %), 0.2 to 92 % (7 %).
_START_SHARE = 0.05
_GROW_AFTER_BATCHES = 100
_GROW = 1.05
AGED_S = 10.0
_NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Lane:
    """How what a topic sends is treated: higher priorities first; `deadline_s` from its submission, None: whenever."""

    priority: int = 0
    deadline_s: float | None = None


ORDINARY = Lane()


@dataclass(frozen=True, slots=True)
class Waiting(Generic[T]):
    """One unit in a queue, with whatever its owner needs to find it again."""

    unit: Unit
    ticket: T
    arrived_s: float
    due_s: float = _NEVER


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """Units for one forward, at least one."""

    task: str
    members: tuple[Waiting[T], ...]

    @property
    def longest(self) -> int:
        """Length to which all are padded."""
        return max(member.unit.length for member in self.members)

    @property
    def total_length(self) -> int:
        """Sum of the real lengths; the rest of `longest x units` is padding."""
        return sum(member.unit.length for member in self.members)


class Budget:
    """What one forward of a task may cost. Halved when the device runs out of memory; grows back slowly."""

    def __init__(self, batch_cost: int, max_units: int) -> None:
        if batch_cost < 1 or max_units < 1:
            raise ValueError(f"a batch of cost {batch_cost} and {max_units} units holds nothing")
        self.max_units = max_units
        self.batch_cost = batch_cost
        self._full_cost = batch_cost
        self._clean = 0

    def fits(self, longest: int, cost: float = _NEVER) -> int:
        """How many units of this length one batch of at most `cost` may have; 1 for what is over it alone."""
        return max(1, min(self.max_units, int(min(self.batch_cost, cost)) // max(1, longest)))

    def out_of_memory(self) -> None:
        """Halve."""
        self.batch_cost = max(1, self.batch_cost // 2)
        self._clean = 0

    def clean(self) -> None:
        """Count a batch that fitted: after 100 of them grow by 5 %, up to where it began."""
        self._clean += 1
        if self._clean >= _GROW_AFTER_BATCHES and self.batch_cost < self._full_cost:
            self.batch_cost = min(self._full_cost, max(self.batch_cost + 1, int(self.batch_cost * _GROW)))
            self._clean = 0


@dataclass(slots=True)
class _Queue(Generic[T]):
    """Units of one task and lane: a window sorted by length, and what arrived after it was full."""

    task: str
    lane: Lane
    served_s: float = float("-inf")
    total_length: int = 0
    window: list[tuple[int, int, Waiting[T]]] = field(default_factory=list)  # (length, arrival number, unit)
    order: dict[int, int] = field(default_factory=dict)  # arrival number -> length, of those in the window
    behind: deque[tuple[int, int, Waiting[T]]] = field(default_factory=deque)

    def enter(self, entry: tuple[int, int, Waiting[T]]) -> None:
        """Put a unit into the window; those that came before it are there or gone."""
        insort(self.window, entry, key=_by_length)
        self.order[entry[1]] = entry[0]

    def oldest(self) -> int:
        """Position in the window of the unit that came first."""
        arrival = next(iter(self.order))
        return bisect_left(self.window, (self.order[arrival], arrival), key=_by_length)

    def cut(self, start: int, end: int) -> tuple[Waiting[T], ...]:
        """Take a run of neighbours out of the window."""
        run = self.window[start:end]
        del self.window[start:end]
        for _, arrival, _ in run:
            del self.order[arrival]
        return tuple(waiting for _, _, waiting in run)

    def first(self) -> Waiting[T]:
        """The unit that came first."""
        return self.window[self.oldest()][2]


class Planner(Generic[T]):
    """Waiting units of all tasks of one device. Not thread-safe: its owner holds a lock."""

    def __init__(self, window_units: int = WINDOW_UNITS, priority_step_s: float = PRIORITY_STEP_S) -> None:
        self._window_units = window_units
        self._priority_step_s = priority_step_s
        self._budgets: dict[str, Budget] = {}
        self._latencies: dict[str, Latency] = {}
        self._queues: dict[tuple[str, Lane], _Queue[T]] = {}
        self._arrivals = 0
        self._waiting = 0

    def __len__(self) -> int:
        """Units that wait."""
        return self._waiting

    def add_task(self, name: str, task: Task) -> Budget:
        """Make a task known; the budget that its batches are cut by. Raises ValueError if none fits."""
        self._budgets[name] = Budget(task.batch_cost, task.max_units)
        self._latencies[name] = Latency()
        return self._budgets[name]

    def budget(self, task: str) -> Budget:
        """Of a task that was added. Raises KeyError."""
        return self._budgets[task]

    def put(
        self,
        task: str,
        unit: Unit,
        ticket: T,
        now_s: float,
        lane: Lane = ORDINARY,
        submitted_s: float | None = None,
    ) -> None:
        """Queue one unit; `submitted_s` (None: now) is when its deadline began. Raises KeyError for an unknown task."""
        if task not in self._budgets:
            raise KeyError(task)
        queue = self._queues.get((task, lane))
        if queue is None:
            queue = self._queues[task, lane] = _Queue(task, lane)
        self._arrivals += 1
        self._waiting += 1
        queue.total_length += unit.length
        due_s = _NEVER
        if lane.deadline_s is not None:
            due_s = (now_s if submitted_s is None else submitted_s) + lane.deadline_s
        entry = (unit.length, self._arrivals, Waiting(unit, ticket, now_s, due_s))
        if len(queue.window) < self._window_units:
            queue.enter(entry)
        else:
            queue.behind.append(entry)

    def take(self, now_s: float) -> Batch[T] | None:
        """The next batch, or None if nothing waits."""
        busy = [queue for queue in self._queues.values() if queue.window]
        if not busy:
            return None
        queue, within_s = self._choose(busy, now_s)
        start, end = _best_run(queue, self._budgets[queue.task], self._latencies[queue.task], within_s)
        members = queue.cut(start, end)
        while queue.behind and len(queue.window) < self._window_units:
            queue.enter(queue.behind.popleft())
        self._waiting -= len(members)
        batch = Batch(queue.task, members)
        queue.total_length -= batch.total_length
        # Reinserted last, so that among queues due at the same time the one served longest ago comes first.
        queue.served_s = now_s
        self._queues[queue.task, queue.lane] = self._queues.pop((queue.task, queue.lane))
        return batch

    def ran(self, batch: Batch[T], seconds: float) -> None:
        """Learn from a batch that ran in one piece."""
        cost = batch.longest * len(batch.members)
        self._latencies[batch.task].observe(batch.longest, cost, seconds)

    def drain_s(self) -> float:
        """Seconds that all that waits will take, without padding; 0 for what was not learnt yet."""
        total_s = 0.0
        for queue in self._queues.values():
            line = self._latencies[queue.task].line(0)
            if line is not None and queue.total_length:
                batches = -(-queue.total_length // self._budgets[queue.task].batch_cost)
                total_s += line.seconds_per_cost * queue.total_length + line.seconds * batches
        return total_s

    def _choose(self, busy: list[_Queue[T]], now_s: float) -> tuple[_Queue[T], float]:
        """The queue to serve, and the seconds that its batch may take by what is learnt; infinite: no matter."""
        chosen = min(busy, key=self._due)
        first = chosen.first()
        alone_s = self._alone_s(chosen)
        within_s = first.due_s - now_s if first.due_s - now_s >= alone_s else _NEVER
        aged = now_s - first.arrived_s > AGED_S
        hurried, hurried_slack_s = None, _NEVER
        for other in busy:
            due_s = other.first().due_s
            if other is chosen or due_s == _NEVER:
                continue
            its_s = self._alone_s(other)
            slack_s = due_s - now_s - its_s
            if slack_s < 0 or aged:  # late whatever is done now; or it is the chosen one's turn at last
                continue
            if slack_s < min(alone_s, hurried_slack_s):
                hurried, hurried_slack_s = other, slack_s
            within_s = min(within_s, max(slack_s, alone_s))
        if hurried is not None:
            return hurried, hurried.first().due_s - now_s
        return chosen, within_s

    def _alone_s(self, queue: _Queue[T]) -> float:
        """Seconds that the oldest of a queue would take by itself; 0 while nothing is learnt."""
        length = queue.first().unit.length
        line = self._latencies[queue.task].line(length)
        return 0.0 if line is None else line.of(length)

    def drain(self) -> Iterator[Waiting[T]]:
        """Take everything out, in no order: the device is gone."""
        for queue in self._queues.values():
            for _, _, waiting in [*queue.window, *queue.behind]:
                yield waiting
        self._queues.clear()
        self._waiting = 0

    def _due(self, queue: _Queue[T]) -> float:
        """When the queue's turn came: its oldest arrival or its last turn, whichever was later."""
        return max(queue.first().arrived_s, queue.served_s) - queue.lane.priority * self._priority_step_s


def _by_length(entry: tuple[int, int, object]) -> tuple[int, int]:
    return entry[:2]


def _best_run(queue: _Queue[T], budget: Budget, latency: Latency, within_s: float) -> tuple[int, int]:
    """Start and end of the run of neighbours around the oldest unit that does most real work for its cost, and takes
    no longer than `within_s` as far as that is known.

    For each possible longest unit the run reaches as far down as the budget lets it; the winner then sheds
    units at its short end while that pays. O(window), in NumPy: this is most of what the engine costs an item.
    """
    oldest = queue.oldest()
    lengths = np.fromiter((entry[0] for entry in queue.window), np.int64, len(queue.window))
    sums = np.concatenate(([0], np.cumsum(lengths)))
    started = budget.batch_cost * _START_SHARE
    longest = lengths[oldest:]
    last = np.arange(oldest, len(lengths))
    start = np.maximum(last - _fits(longest, budget, latency, within_s) + 1, 0)
    reach = max(1, int(np.searchsorted(start, oldest, "right")))  # longer ones fit even fewer
    start, last, longest = start[:reach], last[:reach], longest[:reach]
    worth = (sums[last + 1] - sums[start]) / (longest * (last - start + 1) + started)
    best = int(worth.argmax())
    first, end = min(int(start[best]), oldest), int(last[best]) + 1
    # What the run is worth without its first unit, its first two, ...
    starts = np.arange(first, oldest + 1)
    worths = (sums[end] - sums[starts]) / (lengths[end - 1] * (end - starts) + started)
    falls = np.flatnonzero(worths[1:] <= worths[:-1])
    return first + (int(falls[0]) if falls.size else len(starts) - 1), end


def _fits(longest: NDArray[np.int64], budget: Budget, latency: Latency, within_s: float) -> NDArray[np.int64]:
    """How many units each batch may have, by the length of its longest."""
    if within_s == _NEVER:
        fitting = budget.batch_cost // np.maximum(longest, 1)
        clipped: NDArray[np.int64] = np.clip(fitting, 1, budget.max_units)
        return clipped

    def fits(length: int) -> int:
        line: Line | None = latency.line(length)
        return (
            budget.fits(length) if line is None else budget.fits(length, max(0.0, line.cost_within(within_s)))
        )

    return np.minimum.accumulate(np.fromiter(map(fits, longest.tolist()), np.int64, len(longest)))
