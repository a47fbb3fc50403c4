"""The one thread that owns the device: it loads all networks, forms batches of what waits, and runs them.

It knows no event loop: what it has to tell it tells by callbacks, on its own thread. torch is imported by the
thread, so importing this module costs nothing.
"""

import threading
from asyncio import Future
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from models.inference.batching import Batch, Budget, Planner
from models.types import Outcome, Prepared, Task, Unit


@dataclass(slots=True, eq=False)
class Request:
    """A payload's units on their way through the device."""

    done: "Future[Outcome]"  # set on the loop once neither planner nor device has a unit of it
    prepared: Prepared
    missing: int  # touched by the device thread alone
    outputs: list[Any]
    abandoned: bool = False  # set on the loop: its caller is gone, do not run it


@dataclass(frozen=True, slots=True)
class BatchReport:
    """One batch that ran: rows, padded and summed length, seconds on the device, its oldest unit's wait."""

    task: str
    units: int
    longest: int
    total_length: int
    forward_s: float
    queue_s: float


@dataclass(frozen=True, slots=True)
class Reports:
    """Whom the thread tells, on the thread itself; none may block."""

    ready: Callable[[dict[str, Task]], None]  # all tasks are loaded and warm
    ran: Callable[[BatchReport], None]
    whole: Callable[
        [Task, list[Request]], None
    ]  # every unit of these has its output or error, or was abandoned
    ended: Callable[[BaseException | None], None]  # the last call; None if it was told to stop


@dataclass(frozen=True, slots=True)
class _Loaded:
    task: Task
    budget: Budget
    known_good: Unit | None


_Ticket = tuple[Request, int]  # and which of its units


class Device:
    """Start once, put at will, stop. `put` and `stop` may be called from any thread."""

    def __init__(self, clock: Callable[[], float], reports: Reports, compute_threads: int | None) -> None:
        """`clock` gives monotonic seconds; `compute_threads` are torch's on the CPU (None: its choice)."""
        self._clock = clock
        self._reports = reports
        self._compute_threads = compute_threads
        self._loaded: dict[str, _Loaded] = {}
        # Under `_wake`:
        self._wake = threading.Condition()
        self._planner: Planner[_Ticket] = Planner()
        self._stopping = False

    def __len__(self) -> int:
        """Units that wait."""
        return len(self._planner)

    def start(self, tasks: Mapping[str, Callable[[], Task]]) -> None:
        """Begin to load, each by its function, and warm up; returns at once. `ready` or `ended` follows."""
        # A daemon: a forward that hangs must not keep the worker from ending.
        threading.Thread(target=self._main, args=(dict(tasks),), name="inference-device", daemon=True).start()

    def put(self, task: str, request: Request, now_s: float, priority: int) -> None:
        """Queue all units of a request. Blocks for no longer than a batch takes to be chosen (about 1 ms)."""
        with self._wake:
            for place, unit in enumerate(request.prepared.units):
                self._planner.put(task, unit, (request, place), now_s, priority)
            self._wake.notify()

    def stop(self) -> None:
        """End after the batch that runs now; what waits is not run."""
        with self._wake:
            self._stopping = True
            self._wake.notify()

    def _main(self, tasks: dict[str, Callable[[], Task]]) -> None:
        error: BaseException | None = None
        try:
            self._load(tasks)
            self._reports.ready({name: loaded.task for name, loaded in self._loaded.items()})
            while (batch := self._next_batch()) is not None:
                self._run(batch)
                del batch  # or its units would stay in memory until the next one
        except BaseException as caught:  # this thread's end must end every future, whatever ended it
            error = caught
        self._reports.ended(error)

    def _load(self, tasks: dict[str, Callable[[], Task]]) -> None:
        import torch

        from models.inference.offline import warm_up

        if self._compute_threads is not None:
            torch.set_num_threads(self._compute_threads)  # holds for the calling thread: this one
        for name, load in tasks.items():
            task = load()
            known_good = warm_up(task)
            self._loaded[name] = _Loaded(task, self._planner.add_task(name, task), known_good)

    def _next_batch(self) -> Batch[_Ticket] | None:
        """Waits for work; None when it is time to end."""
        with self._wake:
            while not self._stopping:
                batch = self._planner.take(self._clock())
                if batch is not None:
                    return batch
                self._wake.wait()
        return None

    def _run(self, batch: Batch[_Ticket]) -> None:
        wanted = Batch(batch.task, tuple(m for m in batch.members if not m.ticket[0].abandoned))
        if wanted.members:
            self._forward(wanted)
        whole = []
        for member in batch.members:
            request, _ = member.ticket
            request.missing -= 1
            if not request.missing:
                whole.append(request)
        self._reports.whole(self._loaded[batch.task].task, whole)

    def _forward(self, batch: Batch[_Ticket]) -> None:
        from models.inference.engine import run_batch

        loaded = self._loaded[batch.task]
        started_s = self._clock()
        ran = run_batch(loaded.task, [member.unit for member in batch.members], loaded.known_good)
        forward_s = self._clock() - started_s
        if ran.out_of_memory:
            loaded.budget.out_of_memory()
        else:
            loaded.budget.clean()
        for member, output in zip(batch.members, ran.outputs, strict=True):
            request, place = member.ticket
            request.outputs[place] = output
        oldest_s = min(member.arrived_s for member in batch.members)
        report = BatchReport(
            task=batch.task,
            units=len(batch.members),
            longest=batch.longest,
            total_length=batch.total_length,
            forward_s=forward_s,
            queue_s=started_s - oldest_s,
        )
        self._reports.ran(report)
