"""The seam by which agents reach the models: `await service.submit(task, payload)`.

    submit ─► admission ─► prepare (pool) ─► planner ─► forward (device thread) ─► finish (pool) ─► Outcome
              waits while      CPU            batches     one thread a process,       CPU
              the task is full                by cost     all tasks

- One thread owns the device, loads all networks on it and runs them; the event loop never computes.
- What a task has in flight is bounded in units and bytes, each task by itself: one that is full holds up its
  own callers alone, whose agents then stop pulling. Nothing is shed.
- Every future ends. A cancelled caller leaves its batch mates alone. If the device thread dies, all who wait
  and all who come get InferenceFailed, and `failed` is set, so that the worker can stop.
- What other threads have for the loop gathers in a mailbox and wakes it once, however much it is.

torch is imported by the device thread; importing this module costs nothing.
"""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

from models.errors import BadInput, ModelError
from models.inference.steps import finish, kind_and_place, prepare
from models.registry import task_class
from models.types import LoadOptions, ModelInfo, Outcome, Payload, Prepared, Task
from streams.inference.admission import Admission
from streams.inference.device import BatchReport, Device, Reports, Request
from streams.inference.mailbox import Mailbox

R = TypeVar("R")

_IDLE_THREAD_ENDS_S = 0.5


class InferenceFailed(Exception):
    """The device thread is gone; this process will label nothing more. Stop the worker."""


class InferenceClosed(InferenceFailed):
    """The service is stopping and has not labelled this payload; whoever reads it next will."""


class Observer(Protocol):
    """What a metrics layer hears, on the event loop, once a batch or failed payload."""

    def batch_done(self, batch: BatchReport) -> None:
        """A batch ran. Padding is 1 - total_length / (longest x units)."""

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


@dataclass(slots=True)
class _Served:
    task: Task
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
        self._tasks: dict[str, _Served] = {}
        # What a submit may wait for once it is let in, so that all can be ended.
        self._pending: set[asyncio.Future[Any]] = set()
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._refusal: InferenceFailed | None = None  # for new submits
        self._failure: InferenceFailed | None = None  # for those in flight too
        self._pool = ThreadPoolExecutor(self._limits.prepare_threads, "inference-prepare")
        self._mailbox: Mailbox | None = None
        self._device: Device | None = None
        self._thread_ended = asyncio.Event()

    # On the loop, for callers.

    async def start(self, tasks: Mapping[str, LoadOptions]) -> None:
        """Load these tasks; returns when each has labelled its own examples, so that no shape is new to it.

        Raises KeyError for a task that is not registered, WeightsMismatch, or an example's error.
        """
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        self._mailbox = Mailbox(loop)
        self._device = self._make_device(self._mailbox, ready)
        # Finding a class imports torch and more, seconds of work: for the device thread too.
        self._device.start(
            {name: partial(_load_task, self._find_class, name, options) for name, options in tasks.items()}
        )
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
        request: Request | None = None
        self._entered()
        try:
            prepared = await self._in_pool(partial(prepare, loaded.task, payload))
            more_units, more_bytes = _growth(prepared, held_bytes)
            loaded.admission.resize(more_units, more_bytes)
            held_units, held_bytes = held_units + more_units, held_bytes + more_bytes
            if not prepared.units:  # silence, say: nothing to run
                return await self._in_pool(partial(finish, loaded.task, prepared, []))
            request = self._enqueue(task, prepared, submitted_s, priority)
            return await asyncio.shield(request.done)
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
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._device is not None:
            self._device.stop()
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
        assert self._mailbox is not None  # a task is known only after `start`
        self._pool.submit(_run_in_pool, self._mailbox, future, work)
        result: R = await future
        return result

    def _enqueue(self, task: str, prepared: Prepared, now_s: float, priority: int) -> Request:
        units = len(prepared.units)
        request = Request(self._future(), prepared, units, [None] * units)
        assert self._device is not None
        self._device.put(task, request, now_s, priority)
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

    def _started(self, ready: "asyncio.Future[None]", tasks: dict[str, Task]) -> None:
        for name, task in tasks.items():
            room = Admission(self._limits.units_in_flight, self._limits.bytes_in_flight)
            self._tasks[name] = _Served(task, room)
        _settle(ready, None, None)

    def _ran(self, batch: BatchReport) -> None:
        totals = self._tasks[batch.task].totals
        totals.batches += 1
        totals.units += batch.units
        totals.real_length += batch.total_length
        totals.padded_length += batch.longest * batch.units
        totals.device_busy_s += batch.forward_s
        totals.queue_s += batch.queue_s
        if self._observer is not None:
            self._observer.batch_done(batch)

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

    def _make_device(self, mailbox: Mailbox, ready: "asyncio.Future[None]") -> Device:
        """Its reports go to the loop by the mailbox, whole requests to the pool to be finished."""
        pool = self._pool

        def whole(task: Task, requests: list[Request]) -> None:
            try:
                pool.submit(_finish_all, mailbox, task, requests)
            except RuntimeError:
                if self._failure is None:  # else the pool is shut, and all futures are ended
                    raise

        reports = Reports(
            ready=lambda tasks: mailbox.post(self._started, ready, tasks),
            ran=lambda batch: mailbox.post(self._ran, batch),
            whole=whole,
            ended=lambda error: mailbox.post(self._device_ended, ready, error),
        )
        return Device(self._clock, reports, self._compute_threads)


def _load_task(find_class: Callable[[str], type[Task]], name: str, options: LoadOptions) -> Task:
    return find_class(name).load(options)


def _growth(prepared: Prepared, payload_bytes: int) -> tuple[int, int]:
    """How many units and bytes more a payload takes now that it is decoded; bytes never fewer."""
    decoded_bytes = sum(int(getattr(unit.data, "nbytes", 0)) for unit in prepared.units)
    return max(0, len(prepared.units) - 1), max(0, decoded_bytes - payload_bytes)


def _run_in_pool(mailbox: Mailbox, future: "asyncio.Future[Any]", work: Callable[[], object]) -> None:
    if future.done():  # its caller went away while it waited for a thread
        return
    try:
        result = work()
    except BaseException as error:  # whatever it was, the one who waits must hear of it
        mailbox.post(_settle, future, None, error)
    else:
        mailbox.post(_settle, future, result, None)


def _finish_all(mailbox: Mailbox, task: Task, requests: list[Request]) -> None:
    """One job a batch: most finishes take microseconds, a job each would take more."""
    for request in requests:
        work = partial(finish, task, request.prepared, request.outputs)
        if request.abandoned:
            mailbox.post(request.done.cancel)
        else:
            _run_in_pool(mailbox, request.done, work)


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


async def _wait(event: asyncio.Event, timeout_s: float) -> bool:
    """Whether the event was set in time."""
    try:
        await asyncio.wait_for(event.wait(), timeout_s)
    except asyncio.TimeoutError:
        return event.is_set()
    return True
