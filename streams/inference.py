"""The seam by which agents reach the models: `await service.submit(task, payload)`.

    submit ─► admission ─► prepare (pool) ─► planner ─► forward (device thread) ─► finish (pool) ─► Outcome
              waits while      CPU            batches     one thread a process,       CPU
              the task is full                by cost     all tasks

- One thread owns the device, loads all networks on it and runs them; the event loop never computes.
- What a task has in flight is bounded in units and bytes, each task by itself: one that is full holds up its
  own callers alone, whose agents then stop pulling. Nothing is shed.
- Every future ends. A cancelled caller leaves its batch mates alone. If the device thread dies, all who wait
  and all who come get InferenceFailed, and `failed` is set, so that the worker can stop.
- All results of a batch come back to the loop in one call.

torch is imported by the device thread; importing this module costs nothing.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

from models.errors import BadInput, ModelError
from models.inference.batching import Batch, Budget, Planner
from models.inference.steps import finish, kind_and_place, prepare
from models.registry import task_class
from models.types import LoadOptions, ModelInfo, Outcome, Payload, Prepared, Task, Unit
from streams.admission import Admission

R = TypeVar("R")

_IDLE_THREAD_ENDS_S = 0.5


class InferenceFailed(Exception):  # noqa: N818  named as the errors of `models`
    """The device thread is gone; this process will label nothing more. Stop the worker."""


class InferenceClosed(InferenceFailed):
    """The service is stopping and has not labelled this payload; whoever reads it next will."""


class Observer(Protocol):
    """What a metrics layer hears, on the event loop, once a batch or failed payload."""

    def batch_done(
        self, task: str, units: int, longest: int, total_length: int, forward_s: float, queue_s: float
    ) -> None:
        """A batch ran. Padding is 1 - total_length / (longest x units); `queue_s`: its oldest unit's wait."""

    def failed(self, task: str, reason: str) -> None:
        """A payload got an error: a BadInput's reason, or `out_of_memory`."""


@dataclass(slots=True)
class Totals:
    """Of one task since the start; `padded_length`: what the device computed, `real_length`: what was due."""

    batches: int = 0
    units: int = 0
    real_length: int = 0
    padded_length: int = 0
    failed: int = 0
    device_busy_s: float = 0.0
    queue_s: float = 0.0  # each batch's oldest unit, summed

    @property
    def padding(self) -> float:
        """Share of the device's work that was padding, 0..1."""
        return 1 - self.real_length / self.padded_length if self.padded_length else 0.0


@dataclass(frozen=True, slots=True)
class InferenceLimits:
    """Bounds of one task, and the threads that serve all."""

    units_in_flight: int = 1024  # four windows: the planner always has a full one to choose from
    bytes_in_flight: int = 256 << 20  # of payloads, or of what they were decoded to where that is more
    prepare_threads: int = 2  # one or two batches ahead of the device is enough


@dataclass(slots=True, eq=False)
class _Request:
    """A payload's units on their way through the device."""

    done: "asyncio.Future[None]"  # set on the loop once neither planner nor device has a unit of it
    missing: int  # touched by the device thread alone
    outputs: list[Any]
    abandoned: bool = False  # set on the loop: its caller is gone, do not run it


_Ticket = tuple[_Request, int]  # and which of its units


@dataclass(slots=True)
class _Loaded:
    task: Task
    budget: Budget
    known_good: Unit | None
    admission: Admission
    totals: Totals = field(default_factory=Totals)


class InferenceService:
    """All tasks of this process on one device. Make, `start`, `submit` at will, `stop`: once, on one loop."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        observer: Observer | None = None,
        limits: InferenceLimits | None = None,
        compute_threads: int | None = None,
        find_class: Callable[[str], type[Task]] = task_class,
    ) -> None:
        """`clock` gives monotonic seconds; `compute_threads` are torch's on the CPU (None: its choice)."""
        self.failed = asyncio.Event()
        self._clock = clock
        self._observer = observer
        self._limits = limits or InferenceLimits()
        self._compute_threads = compute_threads
        self._find_class = find_class
        self._tasks: dict[str, _Loaded] = {}
        self._pending: set[asyncio.Future[Any]] = (
            set()
        )  # all that a submit may be waiting for after admission
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._refusal: InferenceFailed | None = None  # for new submits
        self._failure: InferenceFailed | None = None  # for those in flight too
        self._pool: ThreadPoolExecutor | None = None
        self._thread_ended = asyncio.Event()
        # Shared with the device thread, under `_wake`:
        self._wake = threading.Condition()
        self._planner: Planner[_Ticket] = Planner()
        self._stopping = False

    # On the loop, for callers.

    async def start(self, tasks: Mapping[str, LoadOptions]) -> None:
        """Load these tasks; returns when each has labelled its own examples, so that no shape is new to it.

        Raises KeyError for a task that is not registered, WeightsMismatch, or an example's error.
        """
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        self._pool = ThreadPoolExecutor(self._limits.prepare_threads, "inference-prepare")
        thread = threading.Thread(
            target=self._device_main,
            args=(loop, ready, dict(tasks)),
            name="inference-device",
            daemon=True,  # a forward that hangs must not keep the worker from ending
        )
        thread.start()
        try:
            await asyncio.shield(ready)
        except BaseException:
            await self.stop(0.0)
            raise

    async def submit(self, task: str, payload: Payload, priority: int = 0) -> Outcome:
        """Label one payload. Waits while the task is full; safe to cancel at any time.

        Raises KeyError for a task that was not started, BadInput (`poison` for what broke the network),
        OutOfMemory, InferenceFailed if the device is gone, InferenceClosed while stopping.
        """
        if self._refusal is not None:
            raise _again(self._refusal)
        loaded = self._tasks[task]
        submitted_s = self._clock()
        await loaded.admission.enter(len(payload.data))
        held_units, held_bytes = 1, len(payload.data)
        request: _Request | None = None
        self._entered()
        try:
            prepared = await self._in_pool(partial(prepare, loaded.task, payload))
            more_units, more_bytes = _growth(prepared, held_bytes)
            loaded.admission.resize(more_units, more_bytes)
            held_units, held_bytes = held_units + more_units, held_bytes + more_bytes
            request = self._enqueue(task, prepared, submitted_s, priority)
            await asyncio.shield(request.done)
            return await self._in_pool(partial(finish, loaded.task, prepared, request.outputs))
        except ModelError as error:
            loaded.totals.failed += 1
            if self._observer is not None:
                self._observer.failed(task, error.reason if isinstance(error, BadInput) else "out_of_memory")
            raise
        finally:
            leave = partial(self._left, loaded.admission, held_units, held_bytes)
            if request is None or request.done.done():
                leave()
            else:  # cancelled: its units still take up room in the planner or on the device
                request.abandoned = True
                request.done.add_done_callback(lambda _: leave())

    async def stop(self, timeout_s: float) -> None:
        """Refuse new payloads, finish those in flight within `timeout_s`, end the rest with InferenceClosed.

        Returns within `timeout_s` and half a second even if a forward hangs: that ends with the process.
        """
        deadline_s = self._clock() + timeout_s
        closed = InferenceClosed("the inference service is stopping")
        self._refusal = self._refusal or closed
        for loaded in self._tasks.values():
            loaded.admission.fail(closed)
        await _wait(self._idle, timeout_s)
        self._end_pending(closed)
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            await _wait(self._thread_ended, max(_IDLE_THREAD_ENDS_S, deadline_s - self._clock()))

    @property
    def saturated(self) -> frozenset[str]:
        """The tasks to which a submit would wait now."""
        return frozenset(name for name, loaded in self._tasks.items() if loaded.admission.saturated)

    @property
    def totals(self) -> Mapping[str, Totals]:
        """Counts since the start, by task."""
        return {name: loaded.totals for name, loaded in self._tasks.items()}

    def model(self, task: str) -> ModelInfo:
        """Whose labels a started task gives. Raises KeyError."""
        return self._tasks[task].task.model

    # On the loop, inside.

    async def _in_pool(self, work: Callable[[], R]) -> R:
        future = self._future()
        loop = asyncio.get_running_loop()
        assert self._pool is not None  # a task is known only after `start`
        self._pool.submit(_run_in_pool, loop, future, work)
        result: R = await future
        return result

    def _enqueue(self, task: str, prepared: Prepared, now_s: float, priority: int) -> _Request:
        units = prepared.units
        request = _Request(self._future(), len(units), [None] * len(units))
        if not units:  # silence, say: nothing to run
            request.done.set_result(None)
            return request
        with self._wake:
            for place, unit in enumerate(units):
                self._planner.put(task, unit, (request, place), now_s, priority)
            self._wake.notify()
        return request

    def _future(self) -> "asyncio.Future[Any]":
        """One that `_end_pending` will end if nothing else does."""
        if self._failure is not None:
            raise _again(self._failure)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        return future

    def _entered(self) -> None:
        self._in_flight += 1
        self._idle.clear()

    def _left(self, admission: Admission, units: int, size_bytes: int) -> None:
        admission.resize(-units, -size_bytes)
        self._in_flight -= 1
        if not self._in_flight:
            self._idle.set()

    def _end_pending(self, failure: InferenceFailed) -> None:
        self._refusal = self._refusal or failure
        self._failure = self._failure or failure
        for loaded in self._tasks.values():
            loaded.admission.fail(failure)
        for future in list(self._pending):
            _settle(future, None, _again(failure))

    def _started(self, ready: "asyncio.Future[None]", tasks: dict[str, _Loaded]) -> None:
        self._tasks = tasks
        _settle(ready, None, None)

    def _delivered(self, task: str, batch: "_Report | None", finished: list[_Request]) -> None:
        """Of one batch: wake the callers whose units are all done; then count."""
        for request in finished:
            _settle(request.done, None, None)
        if batch is None:
            return
        totals = self._tasks[task].totals
        totals.batches += 1
        totals.units += batch.units
        totals.real_length += batch.total_length
        totals.padded_length += batch.longest * batch.units
        totals.device_busy_s += batch.forward_s
        totals.queue_s += batch.queue_s
        if self._observer is not None:
            self._observer.batch_done(
                task, batch.units, batch.longest, batch.total_length, batch.forward_s, batch.queue_s
            )

    def _device_ended(self, ready: "asyncio.Future[None]", error: BaseException | None) -> None:
        self._thread_ended.set()
        if error is None:
            return
        if not ready.done():
            # Anything but an Exception (SystemExit, say) would end the loop itself.
            _settle(ready, None, error if isinstance(error, Exception) else InferenceFailed(repr(error)))
            return
        failure = InferenceFailed(f"the device thread died: {kind_and_place(error)}: {error}")
        failure.__cause__ = error
        self._end_pending(failure)
        self.failed.set()

    # On the device thread.

    def _device_main(
        self, loop: asyncio.AbstractEventLoop, ready: "asyncio.Future[None]", tasks: dict[str, LoadOptions]
    ) -> None:
        error: BaseException | None = None
        try:
            loaded = self._load(tasks)
            _post(loop, self._started, ready, loaded)
            while (batch := self._next_batch()) is not None:
                self._run(loop, loaded[batch.task], batch)
                del batch  # or its units would stay in memory until the next one
        except BaseException as caught:  # this thread's end must end every future, whatever ended it
            error = caught
        _post(loop, self._device_ended, ready, error)

    def _load(self, tasks: dict[str, LoadOptions]) -> dict[str, _Loaded]:
        import torch

        from models.inference.offline import warm_up

        if self._compute_threads is not None:
            torch.set_num_threads(self._compute_threads)  # holds for the calling thread: this one
        limits = self._limits
        loaded = {}
        for name, options in tasks.items():
            task = self._find_class(name).load(options)
            known_good = warm_up(task)
            admission = Admission(limits.units_in_flight, limits.bytes_in_flight)
            loaded[name] = _Loaded(task, self._planner.add_task(name, task), known_good, admission)
        return loaded

    def _next_batch(self) -> Batch[_Ticket] | None:
        """Waits for work; None when it is time to end."""
        with self._wake:
            while not self._stopping:
                batch = self._planner.take(self._clock())
                if batch is not None:
                    return batch
                self._wake.wait()
        return None

    def _run(self, loop: asyncio.AbstractEventLoop, loaded: _Loaded, batch: Batch[_Ticket]) -> None:
        from models.inference.engine import run_batch

        wanted = Batch(batch.task, tuple(m for m in batch.members if not m.ticket[0].abandoned))
        outputs: list[Any] = []
        report = None
        if wanted.members:
            started_s = self._clock()
            ran = run_batch(loaded.task, [member.unit for member in wanted.members], loaded.known_good)
            report = _report(wanted, started_s, self._clock())
            outputs = ran.outputs
            if ran.out_of_memory:
                loaded.budget.out_of_memory()
            else:
                loaded.budget.clean()
        finished = []
        for member, output in zip(wanted.members, outputs, strict=True):
            request, place = member.ticket
            request.outputs[place] = output
        for member in batch.members:
            request, _ = member.ticket
            request.missing -= 1
            if not request.missing:
                finished.append(request)
        _post(loop, self._delivered, batch.task, report, finished)


@dataclass(frozen=True, slots=True)
class _Report:
    units: int
    longest: int
    total_length: int
    forward_s: float
    queue_s: float


def _report(batch: Batch[Any], started_s: float, ended_s: float) -> _Report:
    oldest_s = min(member.arrived_s for member in batch.members)
    return _Report(
        len(batch.members), batch.longest, batch.total_length, ended_s - started_s, started_s - oldest_s
    )


def _growth(prepared: Prepared, payload_bytes: int) -> tuple[int, int]:
    """How many units and bytes more a payload takes now that it is decoded; bytes never fewer."""
    decoded_bytes = sum(int(getattr(unit.data, "nbytes", 0)) for unit in prepared.units)
    return max(0, len(prepared.units) - 1), max(0, decoded_bytes - payload_bytes)


def _run_in_pool(
    loop: asyncio.AbstractEventLoop, future: "asyncio.Future[Any]", work: Callable[[], object]
) -> None:
    if future.done():  # its caller went away while it waited for a thread
        return
    try:
        result = work()
    except BaseException as error:  # whatever it was, the one who waits must hear of it
        _post(loop, _settle, future, None, error)
    else:
        _post(loop, _settle, future, result, None)


def _again(failure: InferenceFailed) -> InferenceFailed:
    """A copy to raise: one object raised many times gathers a traceback each time."""
    copy = type(failure)(*failure.args)
    copy.__cause__ = failure.__cause__
    return copy


def _settle(future: "asyncio.Future[Any]", result: object, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _post(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *args: object) -> None:
    try:
        loop.call_soon_threadsafe(call, *args)
    except RuntimeError:
        if not loop.is_closed():  # else nobody is left to hear it
            raise


async def _wait(event: asyncio.Event, timeout_s: float) -> bool:
    """Whether the event was set in time."""
    try:
        await asyncio.wait_for(event.wait(), timeout_s)
    except asyncio.TimeoutError:
        return event.is_set()
    return True
