"""Which waiting units go to the device together. Pure: no clock, no threads, no torch.

A batch pays for its padding: it costs `longest length x units`. So units wait in a window sorted by length,
and a batch is a run of neighbours in it, its ends wherever they fit best under the task's cost budget. On a
simulated mixed feed (60 % of 5-40 tokens, 25 % of 60-200, 15 % of 256-512; budget 2,048) 6 % of the work is
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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from models.inference.budget import Budget
from models.inference.latency import Latency
from models.inference.window import NEVER, Waiting, Window
from models.types import Task, Unit

T = TypeVar("T")

WINDOW_UNITS = 256  # on that feed 64 pad 14 % of the work, 256 6 %, 1,024 1.5 % at twice the time a unit
PRIORITY_STEP_S = 1.0
AGED_S = 10.0


@dataclass(frozen=True, slots=True)
class Lane:
    """How what a topic sends is treated: higher priorities first; `deadline_s` from its submission, None: whenever."""

    priority: int = 0
    deadline_s: float | None = None

    def due_s(self, submitted_s: float) -> float:
        """When what was submitted then must be done; infinite: whenever."""
        return NEVER if self.deadline_s is None else submitted_s + self.deadline_s


ORDINARY = Lane()


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """Units for one forward, at least one, shortest first."""

    task: str
    members: tuple[Waiting[T], ...]

    @property
    def lengths(self) -> list[int]:
        """Real lengths; what is missing to the longest of them is padding."""
        return [member.unit.length for member in self.members]

    @property
    def longest(self) -> int:
        """Length to which all are padded."""
        return self.members[-1].unit.length

    @property
    def total_length(self) -> int:
        """Sum of the real lengths; the rest of `longest x units` is padding."""
        return sum(self.lengths)


class _Queue(Window[T]):
    """Units of one task and lane."""

    def __init__(self, task: str, lane: Lane, window_units: int) -> None:
        super().__init__(window_units)
        self.task = task
        self.lane = lane
        self.served_s = float("-inf")


class Planner(Generic[T]):
    """Waiting units of all tasks of one device. Not thread-safe: its owner holds a lock."""

    def __init__(self, window_units: int = WINDOW_UNITS, priority_step_s: float = PRIORITY_STEP_S) -> None:
        self._window_units = window_units
        self._priority_step_s = priority_step_s
        self._budgets: dict[str, Budget] = {}
        self._latencies: dict[str, Latency] = {}
        self._queues: dict[tuple[str, Lane], _Queue[T]] = {}
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
        due_s = lane.due_s(now_s if submitted_s is None else submitted_s)
        self.put_all(task, lane, [Waiting(unit, ticket, now_s, due_s)])

    def put_all(self, task: str, lane: Lane, waiting: Sequence[Waiting[T]]) -> None:
        """Queue units in order. Raises KeyError for an unknown task."""
        queue = self._queues.get((task, lane))
        if queue is None:
            if task not in self._budgets:
                raise KeyError(task)
            queue = self._queues[task, lane] = _Queue(task, lane, self._window_units)
        queue.put(waiting)
        self._waiting += len(waiting)

    def take(self, now_s: float) -> Batch[T] | None:
        """The next batch, or None if nothing waits."""
        busy = [queue for queue in self._queues.values() if queue]
        if not busy:
            return None
        queue, within_s = self._choose(busy, now_s)
        members = queue.cut(self._budgets[queue.task], self._latencies[queue.task], within_s)
        self._waiting -= len(members)
        # Reinserted last, so that among queues due at the same time the one served longest ago comes first.
        queue.served_s = now_s
        self._queues[queue.task, queue.lane] = self._queues.pop((queue.task, queue.lane))
        return Batch(queue.task, members)

    def ran(self, batch: Batch[T], seconds: float) -> None:
        """Learn from a batch that ran in one piece."""
        longest = batch.longest
        self._latencies[batch.task].observe(longest, longest * len(batch.members), seconds)

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
        chosen = busy[0] if len(busy) == 1 else min(busy, key=self._due)
        first = chosen.first()
        if len(busy) == 1 and first.due_s == NEVER:
            return chosen, NEVER
        alone_s = self._alone_s(chosen)
        within_s = first.due_s - now_s if first.due_s - now_s >= alone_s else NEVER
        aged = now_s - first.arrived_s > AGED_S
        hurried, hurried_slack_s = None, NEVER
        for other in busy:
            due_s = other.first().due_s
            if other is chosen or due_s == NEVER:
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
            yield from queue
        self._queues.clear()
        self._waiting = 0

    def _due(self, queue: _Queue[T]) -> float:
        """When the queue's turn came: its oldest arrival or its last turn, whichever was later."""
        return max(queue.first().arrived_s, queue.served_s) - queue.lane.priority * self._priority_step_s
