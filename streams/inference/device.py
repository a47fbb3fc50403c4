"""The one thread that owns the device: it loads all networks, forms batches of what waits, and runs them.

It knows no event loop: what it has to tell it tells by callbacks, on its own thread. torch is imported by the
thread, so importing this module costs nothing.
"""

import sys
import threading
from asyncio import Future
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from models.inference.batching import Batch, Budget, Lane, Planner
from models.types import ModelInfo, Payload, Prepared, Task, Unit

# A long recording has hundreds of units. So many of one payload wait at a time; the next come behind what others have
# put meanwhile, so that it shares the device with its neighbours instead of holding them up.
UNITS_AT_ONCE = 16

_NOTHING = Prepared(())


@dataclass(slots=True, eq=False)
class Request:
    """A payload on its way. The loop's: futures and room; whoever has it at the moment, one after the other, the
    crew and the device thread: the rest."""

    task: Task
    name: str
    payload: Payload
    lane: Lane
    submitted_s: float
    entered_s: float  # when there was room
    units: int = 1  # room taken
    bytes: int = 0
    giant: bool = False
    futures: "list[Future[Any]]" = field(default_factory=list)
    abandoned: bool = False  # nobody waits for it any more: do not run it
    prepared: Prepared = _NOTHING
    prepared_s: float = 0.0
    missing: int = 0
    outputs: list[Any] = field(default_factory=list)
    unsent: int = 0  # the first unit that the planner has not had
    device_s: float = 0.0  # of all batches that had a unit of it
    ran_s: float = 0.0  # when the last one ended

    def got(self, prepared: Prepared) -> None:
        """It is decoded."""
        self.prepared = prepared
        self.missing = len(prepared.units)
        self.outputs = [None] * self.missing


@dataclass(frozen=True, slots=True)
class BatchReport:
    """One batch that ran: rows, padded and summed length, seconds on the device, its oldest unit's wait; what then
    waited for the device, in seconds of work."""

    task: str
    units: int
    longest: int
    total_length: int
    forward_s: float
    queue_s: float
    drain_s: float = 0.0
    compiles: int = 0  # graphs compiled or captured within it: 0, or the warm-up missed its shape


@dataclass(frozen=True, slots=True)
class Reports:
    """Whom the thread tells, on the thread itself; none may block."""

    ready: Callable[[dict[str, "Loaded"]], None]  # all tasks were loaded and warmed
    loaded: Callable[[str, Task], None]  # one that was wanted again
    ran: Callable[[BatchReport], None]
    whole: Callable[
        [Task, list[Request]], None
    ]  # every unit of these has its output or error, or was abandoned
    ended: Callable[[BaseException | None], None]  # the last call; None if it was told to stop


@dataclass(frozen=True, slots=True)
class Loaded:
    """A task that was warmed, whose labels it gives, and the memory that its weights take; None: it had to give way."""

    task: Task | None
    model: ModelInfo
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _Resident:
    task: Task
    budget: Budget
    known_good: Unit | None
    size_bytes: int


_Ticket = tuple[Request, int]  # and which of its units


class Device:
    """Start once, put at will, stop. `put` and `stop` may be called from any thread."""

    def __init__(
        self,
        clock: Callable[[], float],
        reports: Reports,
        compute_threads: int | None,
        limit_bytes: int = sys.maxsize,
    ) -> None:
        """`clock` gives monotonic seconds; `compute_threads` are torch's on the CPU (None: its choice);
        `limit_bytes`: of the weights of all tasks."""
        self._clock = clock
        self._reports = reports
        self._compute_threads = compute_threads
        self._loaded: dict[str, _Resident] = {}
        self._factories: dict[str, Callable[[], Task]] = {}
        self._limit_bytes = limit_bytes
        # Under `_wake`:
        self._wake = threading.Condition()
        self._planner: Planner[_Ticket] = Planner()
        self._commands: deque[Callable[[], None]] = deque()
        self._stopping = False

    def __len__(self) -> int:
        """Units that wait."""
        return len(self._planner)

    def start(self, tasks: Mapping[str, Callable[[], Task]]) -> None:
        """Begin to load, each by its function, and warm up; returns at once. `ready` or `ended` follows."""
        # A daemon: a forward that hangs must not keep the worker from ending.
        threading.Thread(target=self._main, args=(dict(tasks),), name="inference-device", daemon=True).start()

    def put(self, requests: Sequence[Request]) -> None:
        """Queue their units. Blocks for no longer than a batch takes to be chosen (about 1 ms)."""
        now_s = self._clock()
        with self._wake:
            for request in requests:
                request.prepared_s = now_s
                self._put_next(request, UNITS_AT_ONCE, now_s)
            self._wake.notify()

    def load(self, name: str) -> None:
        """Load a task again; `loaded` follows. There must be room."""
        self._command(partial(self._load_again, name))

    def unload(self, name: str) -> None:
        """Forget a task that has nothing in flight."""
        self._command(partial(self._forget, name))

    def _command(self, command: Callable[[], None]) -> None:
        with self._wake:
            self._commands.append(command)
            self._wake.notify()

    def _put_next(self, request: Request, most: int, now_s: float) -> None:
        units = request.prepared.units
        for place in range(request.unsent, min(len(units), request.unsent + most)):
            request.unsent = place + 1
            ticket = (request, place)
            self._planner.put(request.name, units[place], ticket, now_s, request.lane, request.submitted_s)

    def stop(self) -> None:
        """End after the batch that runs now; what waits is not run."""
        with self._wake:
            self._stopping = True
            self._wake.notify()

    def _main(self, tasks: dict[str, Callable[[], Task]]) -> None:
        error: BaseException | None = None
        try:
            self._reports.ready(self._load_all(tasks))
            while (batch := self._next_batch()) is not None:
                self._run(batch)
                del batch  # or its units would stay in memory until the next one
        except BaseException as caught:  # this thread's end must end every future, whatever ended it
            error = caught
        self._reports.ended(error)

    def _load_all(self, tasks: dict[str, Callable[[], Task]]) -> dict[str, Loaded]:
        """Each once, warmed; where they do not all fit, the first give way to the later ones."""
        import torch

        if self._compute_threads is not None:
            torch.set_num_threads(self._compute_threads)  # holds for the calling thread: this one
        self._factories = tasks
        seen: dict[str, tuple[ModelInfo, int]] = {}
        for name in tasks:
            one = self._loaded[name] = self._load_one(name, self._planner.add_task)
            seen[name] = (one.task.model, one.size_bytes)
            for other in list(self._loaded):
                if other != name and self._held_bytes() > self._limit_bytes:
                    self._forget(other)
        resident = {name: one.task for name, one in self._loaded.items()}
        return {name: Loaded(resident.get(name), *of) for name, of in seen.items()}

    def _held_bytes(self) -> int:
        return sum(loaded.size_bytes for loaded in self._loaded.values())

    def _load_one(self, name: str, budget_of: Callable[[str, Task], Budget]) -> _Resident:
        from models.inference.memory import weights_bytes
        from models.inference.offline import warm_up

        task = self._factories[name]()
        known_good = warm_up(task)
        return _Resident(task, budget_of(name, task), known_good, weights_bytes(task))

    def _load_again(self, name: str) -> None:
        self._loaded[name] = self._load_one(name, lambda one, _: self._planner.budget(one))
        self._reports.loaded(name, self._loaded[name].task)

    def _forget(self, name: str) -> None:
        from models.inference.memory import release

        self._loaded.pop(name, None)
        release()

    def _next_batch(self) -> Batch[_Ticket] | None:
        """Waits for work; None when it is time to end."""
        while True:
            with self._wake:
                while not self._commands:
                    if self._stopping:
                        return None
                    batch = self._planner.take(self._clock())
                    if batch is not None:
                        return batch
                    self._wake.wait()
                command = self._commands.popleft()
            command()  # may take seconds: nobody waits for the lock meanwhile

    def _run(self, batch: Batch[_Ticket]) -> None:
        wanted = Batch(batch.task, tuple(m for m in batch.members if not m.ticket[0].abandoned))
        if wanted.members:
            self._forward(wanted)
        whole = []
        now_s = self._clock()
        with self._wake:
            for member in batch.members:
                request, _ = member.ticket
                request.missing -= 1
                if request.abandoned:  # what was not sent will not be
                    request.missing -= len(request.prepared.units) - request.unsent
                    request.unsent = len(request.prepared.units)
                self._put_next(request, 1, now_s)
                if not request.missing:
                    request.ran_s = now_s
                    whole.append(request)
        self._reports.whole(self._loaded[batch.task].task, whole)

    def _forward(self, batch: Batch[_Ticket]) -> None:
        from models.inference.compiles import compiles
        from models.inference.engine import run_batch

        loaded = self._loaded[batch.task]
        before, started_s = compiles(), self._clock()
        ran = run_batch(loaded.task, [member.unit for member in batch.members], loaded.known_good)
        forward_s = self._clock() - started_s
        if ran.out_of_memory:
            loaded.budget.out_of_memory()
        else:
            loaded.budget.clean()
        if ran.forwards == 1:  # else its time says nothing about a batch of this cost
            self._planner.ran(batch, forward_s)
        with self._wake:
            drain_s = self._planner.drain_s()
        for member, output in zip(batch.members, ran.outputs, strict=True):
            request, place = member.ticket
            request.outputs[place] = output
        for request in {member.ticket[0] for member in batch.members}:
            request.device_s += forward_s
        oldest_s = min(member.arrived_s for member in batch.members)
        report = BatchReport(
            task=batch.task,
            units=len(batch.members),
            longest=batch.longest,
            total_length=batch.total_length,
            forward_s=forward_s,
            queue_s=started_s - oldest_s,
            drain_s=drain_s,
            compiles=compiles() - before,
        )
        self._reports.ran(report)
