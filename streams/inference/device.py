"""The one thread that owns the device: it loads all networks, forms batches of what waits, and runs them.

It knows no event loop: what it has to tell it tells by callbacks, on its own thread. torch is imported by the
thread, so importing this module costs nothing.
"""

import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from models.inference.batching import Batch, Planner
from models.inference.budget import Budget
from models.inference.window import NEVER, Waiting
from models.types import ModelInfo, Task, Unit
from streams.inference.request import UNITS_AT_ONCE, Request


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
    loaded: Callable[
        [str, Task], None
    ]  # one that was wanted again, or is there again after the thread's death
    ran: Callable[
        [Task, list[Request], BatchReport | None], None
    ]  # a batch, None: nobody wanted it; every unit of these requests has its output or error, or was abandoned
    ended: Callable[[BaseException | None], None]  # the thread's last call; None if it was told to stop


@dataclass(frozen=True, slots=True)
class Loaded:
    """A task that was warmed, whose labels it gives, and the memory that its weights take; None: it had to give way."""

    task: Task | None
    model: ModelInfo
    size_bytes: int
    uncaptured: int = 0  # shapes of which no graph could be captured: such batches run eagerly


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
        self.loading = False  # so that who hears of its end knows whether that was loading or running
        self._running: Batch[_Ticket] | None = None  # stays after a death: what it died of, perhaps
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
        self._factories = dict(tasks)
        self._begin(lambda: self._reports.ready(self._load_all()))

    def restart(self) -> None:
        """Begin again after the thread has died: what was loaded is loaded and warmed anew, what waits is run."""
        self._begin(self._load_anew)

    def on_device(self) -> list[Request]:
        """After the thread has died: whose units it had at the time. It will not report them."""
        batch, self._running = self._running, None
        return [] if batch is None else list(dict.fromkeys(member.ticket[0] for member in batch.members))

    def _begin(self, first: Callable[[], None]) -> None:
        # A daemon: a forward that hangs must not keep the worker from ending.
        threading.Thread(target=self._main, args=(first,), name="inference-device", daemon=True).start()

    def put(self, requests: Sequence[Request]) -> None:
        """Queue their units. Blocks for no longer than a batch takes to be chosen (about 0.1 ms)."""
        now_s = self._clock()
        with self._wake:
            before = requests[0]
            ready: list[Waiting[_Ticket]] = []
            for request in requests:
                if request.name != before.name or request.lane is not before.lane:
                    self._planner.put_all(before.name, before.lane, ready)
                    before, ready = request, []
                request.prepared_s = now_s
                units = request.prepared.units
                if len(units) == 1:
                    request.unsent = 1
                    due_s = (
                        NEVER if request.lane.deadline_s is None else request.lane.due_s(request.submitted_s)
                    )
                    ready.append(Waiting(units[0], (request, 0), now_s, due_s))
                else:
                    ready += _next_units(request, UNITS_AT_ONCE, now_s)
            self._planner.put_all(before.name, before.lane, ready)
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

    def stop(self) -> None:
        """End after the batch that runs now; what waits is not run."""
        with self._wake:
            self._stopping = True
            self._wake.notify()

    def _main(self, first: Callable[[], None]) -> None:
        error: BaseException | None = None
        try:
            self._set_threads()
            first()
            while self._next_batch():
                self._run()
                self._running = None  # or its units would stay in memory until the next one
        except BaseException as caught:  # this thread's end must end every future, whatever ended it
            error = caught
        self._reports.ended(error)

    def _set_threads(self) -> None:
        import torch

        if self._compute_threads is not None:
            torch.set_num_threads(self._compute_threads)  # holds for the calling thread: this one

    def _load_all(self) -> dict[str, Loaded]:
        """Each once, warmed; where they do not all fit, the first give way to the later ones."""
        seen: dict[str, tuple[ModelInfo, int, int]] = {}
        for name in self._factories:
            one = self._loaded[name] = self._load_one(name, self._planner.add_task)
            failures = [each.failures for each in getattr(one.task, "captures", ())]
            seen[name] = (one.task.model, one.size_bytes, sum(map(len, failures)))
            for other in list(self._loaded):
                if other != name and self._held_bytes() > self._limit_bytes:
                    self._forget(other)
        resident = {name: one.task for name, one in self._loaded.items()}
        return {name: Loaded(resident.get(name), *of) for name, of in seen.items()}

    def _load_anew(self) -> None:
        """What was there, one after the other: there is room for one at a time."""
        for name in list(self._loaded):
            self._forget(name)
            self._load_again(name)

    def _held_bytes(self) -> int:
        return sum(loaded.size_bytes for loaded in self._loaded.values())

    def _load_one(self, name: str, budget_of: Callable[[str, Task], Budget]) -> _Resident:
        from models.inference.memory import weights_bytes
        from models.inference.offline import warm_up

        self.loading = True  # stays so if it fails
        task = self._factories[name]()
        known_good = warm_up(task)
        self.loading = False
        return _Resident(task, budget_of(name, task), known_good, weights_bytes(task))

    def _load_again(self, name: str) -> None:
        self._loaded[name] = self._load_one(name, lambda one, _: self._planner.budget(one))
        self._reports.loaded(name, self._loaded[name].task)

    def _forget(self, name: str) -> None:
        from models.inference.memory import release

        self._loaded.pop(name, None)
        release()

    def _next_batch(self) -> bool:
        """Waits for work, and takes it; False when it is time to end."""
        while True:
            with self._wake:
                while not self._commands:
                    if self._stopping:
                        return False
                    self._running = self._planner.take(self._clock())
                    if self._running is not None:
                        return True
                    self._wake.wait()
                command = self._commands.popleft()
            command()  # may take seconds: nobody waits for the lock meanwhile

    def _run(self) -> None:
        batch = self._running
        assert batch is not None
        wanted = batch
        if any(member.ticket[0].abandoned for member in batch.members):
            wanted = Batch(batch.task, tuple(m for m in batch.members if not m.ticket[0].abandoned))
        report = self._forward(wanted) if wanted.members else None
        whole = []
        now_s = self._clock()
        more: list[Waiting[_Ticket]] = []
        for member in batch.members:
            request = member.ticket[0]
            request.missing -= 1
            unsent = len(request.outputs) - request.unsent
            if unsent:
                if request.abandoned:  # what was not sent will not be
                    request.missing -= unsent
                    request.unsent += unsent
                else:
                    more += _next_units(request, 1, now_s)
            if not request.missing:
                whole.append(request)
        if more:
            with self._wake:
                for waiting in more:
                    self._planner.put_all(batch.task, waiting.ticket[0].lane, [waiting])
        self._reports.ran(self._loaded[batch.task].task, whole, report)

    def _forward(self, batch: Batch[_Ticket]) -> BatchReport:
        from models.inference.compiles import compiles
        from models.inference.engine import run_batch

        loaded, members = self._loaded[batch.task], batch.members
        before, started_s = compiles(), self._clock()
        ran = run_batch(loaded.task, [member.unit for member in members], loaded.known_good)
        ended_s = self._clock()
        forward_s = ended_s - started_s
        if ran.out_of_memory:
            loaded.budget.out_of_memory()
        else:
            loaded.budget.clean()
        oldest_s = started_s
        for member, output in zip(members, ran.outputs, strict=True):
            request, place = member.ticket
            request.outputs[place] = output
            if request.ran_s != ended_s:  # once a batch, however many units of it are in it
                request.device_s += forward_s
                request.ran_s = ended_s
            if member.arrived_s < oldest_s:
                oldest_s = member.arrived_s
        return BatchReport(
            task=batch.task,
            units=len(members),
            longest=batch.longest,
            total_length=batch.total_length,
            forward_s=forward_s,
            queue_s=started_s - oldest_s,
            drain_s=self._learn(batch, forward_s if ran.forwards == 1 else None),
            compiles=compiles() - before,
        )

    def _learn(self, batch: Batch[_Ticket], forward_s: float | None) -> float:
        """From a batch that ran in one piece, else its time says nothing; seconds of work that still wait."""
        with self._wake:
            if forward_s is not None:
                self._planner.ran(batch, forward_s)
            return self._planner.drain_s()


def _next_units(request: Request, most: int, now_s: float) -> list[Waiting[_Ticket]]:
    """The next that the planner has not had."""
    units, first = request.prepared.units, request.unsent
    request.unsent = last = min(len(units), first + most)
    due_s = request.lane.due_s(request.submitted_s)
    return [Waiting(units[place], (request, place), now_s, due_s) for place in range(first, last)]
