"""The seam by which agents reach the models: `await service.submit(task, payload)`.

    submit ─► admission ─► prepare (pool) ─► planner ─► forward (device thread) ─► finish (pool) ─► Outcome
              waits while      CPU            batches     one thread a process,       CPU
              the task is full                by cost     all tasks

- One thread owns the device, loads all networks on it and runs them; the event loop never computes.
- What a task has in flight is bounded in units and bytes, each task by itself: one that is full holds up its
  own callers alone, whose agents then stop pulling. Nothing is shed.
- The same content is labelled once: what is in flight is joined, what was answered is kept for a while.
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
from typing import Any, TypeVar

from models.errors import BadInput, ModelError
from models.inference.batching import ORDINARY, Lane
from models.inference.steps import finish, kind_and_place, prepare
from models.registry import task_class
from models.types import LoadOptions, ModelInfo, Outcome, Payload, Prepared, Task
from streams.inference.admission import Admission
from streams.inference.device import UNITS_AT_ONCE, BatchReport, Device, Reports, Request
from streams.inference.mailbox import Mailbox
from streams.inference.repeats import Ended, How, Key, Repeats, key_of
from streams.inference.totals import Answer, Observer, Stages, Totals

R = TypeVar("R")

_IDLE_THREAD_ENDS_S = 0.5
_HASHED_ON_LOOP_BYTES = 1 << 16  # more is hashed in the pool


class InferenceFailed(Exception):
    """The device thread is gone; this process will label nothing more. Stop the worker."""


class InferenceClosed(InferenceFailed):
    """The service is stopping and has not labelled this payload; whoever reads it next will."""


@dataclass(frozen=True, slots=True)
class InferenceLimits:
    """Bounds of one task, and the threads that serve all."""

    units_in_flight: int = 1024  # four windows: the planner always has a full one to choose from
    bytes_in_flight: int = 256 << 20  # of payloads, or of what they were decoded to where that is more
    kept_bytes: int = 32 << 20  # of outcomes, over all tasks, for content that comes again; 0: none
    prepare_threads: int = 2  # one or two batches ahead of the device is enough


@dataclass(slots=True)
class _Served:
    task: Task
    admission: Admission
    giants: asyncio.Semaphore
    totals: Totals = field(default_factory=Totals)


@dataclass(slots=True)
class _Held:
    """The room that one payload takes."""

    served: _Served
    units: int
    bytes: int
    giant: bool = False

    def resize(self, units: int, size_bytes: int) -> None:
        """Take more."""
        self.served.admission.resize(units, size_bytes)
        self.units += units
        self.bytes += size_bytes

    def move_to_giants(self) -> None:
        """The one place for giants is taken; what was held before is free."""
        self.give_back()
        self.giant = True

    def give_back(self) -> None:
        """Once."""
        if self.giant:
            self.served.giants.release()
        else:
            self.served.admission.resize(-self.units, -self.bytes)


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
        self._repeats = Repeats(self._limits.kept_bytes)
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

    async def submit(self, task: str, payload: Payload, lane: Lane = ORDINARY) -> Answer:
        """Label one payload. Waits while the task is full; safe to cancel at any time.

        Raises KeyError for a task that was not started, BadInput (`poison` for what broke the network),
        OutOfMemory, InferenceFailed if the device is gone, InferenceClosed while stopping.
        """
        if self._refusal is not None:
            raise _again(self._refusal)
        served = self._tasks[task]
        if len(payload.data) <= _HASHED_ON_LOOP_BYTES:
            key = key_of(task, payload)
        else:
            key = await self._in_pool(partial(key_of, task, payload))
        while True:
            if self._refusal is not None:
                raise _again(self._refusal)
            if (known := self._repeats.kept(key)) is not None:
                return self._repeated(task, served, known, "kept")
            ended = await self._repeats.joined(key)
            if ended is None:
                return await self._first(task, served, key, payload, lane)
            if ended.error is not None:
                raise _same(ended.error)
            if ended.outcome is not None:
                return self._repeated(task, served, ended.outcome, "joined")

    async def _first(self, task: str, served: _Served, key: Key, payload: Payload, lane: Lane) -> Answer:
        """Label content that is not being labelled, and tell those who join how it ended."""
        self._repeats.begin(key)
        ended = Ended()
        started_s = self._clock()
        try:
            answer = await self._label(task, served, payload, lane, started_s)
            ended.outcome = answer.outcome
        except (ModelError, InferenceFailed) as error:
            ended.error = error
            if isinstance(error, ModelError):
                served.totals.failed += 1
                if self._observer is not None:
                    reason = error.reason if isinstance(error, BadInput) else "out_of_memory"
                    self._observer.failed(task, reason)
            raise
        finally:
            self._repeats.end(key, ended)
        if lane.deadline_s is not None and self._clock() - started_s > lane.deadline_s:
            served.totals.late += 1
            if self._observer is not None:
                self._observer.late(task)
        return answer

    def _repeated(self, task: str, served: _Served, outcome: Outcome, how: How) -> Answer:
        served.totals.joined += how == "joined"
        served.totals.kept += how == "kept"
        if self._observer is not None:
            self._observer.repeated(task, how)
        return Answer(outcome, repeated=how)

    async def _label(
        self, task: str, served: _Served, payload: Payload, lane: Lane, started_s: float
    ) -> Answer:
        """Room, prepare, device, finish."""
        held = _Held(served, 1, len(payload.data))
        await served.admission.enter(held.bytes)
        request: Request | None = None
        self._entered()
        entered_s = self._clock()
        try:
            prepared = await self._in_pool(partial(prepare, served.task, payload))
            await self._hold(held, prepared)
            prepared_s = self._clock()
            if not prepared.units:  # silence, say: nothing to run
                outcome = await self._in_pool(partial(finish, served.task, prepared, []))
                ran_s, device_s = prepared_s, 0.0
            else:
                request = self._enqueue(task, prepared, started_s, lane)
                outcome = await asyncio.shield(request.done)
                ran_s, device_s = request.ran_s, request.device_s
            stages = Stages(
                room_s=entered_s - started_s,
                prepare_s=prepared_s - entered_s,
                queue_s=max(0.0, ran_s - prepared_s - device_s),
                device_s=device_s,
                finish_s=self._clock() - ran_s,
            )
            return Answer(outcome, stages)
        finally:
            if request is None or request.done.done():
                self._left(held)
            else:  # cancelled: its units still take up room in the planner or on the device
                request.abandoned = True
                request.done.add_done_callback(lambda _: self._left(held))

    async def _hold(self, held: "_Held", prepared: Prepared) -> None:
        """Take room for what the payload was decoded to. A giant, which takes many batches, takes the task's one place
        for giants instead, so that its neighbours have room in the meantime."""
        held.resize(*_growth(prepared, held.bytes))
        if len(prepared.units) > UNITS_AT_ONCE:
            await held.served.giants.acquire()
            held.move_to_giants()

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

    def _enqueue(self, task: str, prepared: Prepared, submitted_s: float, lane: Lane) -> Request:
        units = len(prepared.units)
        request = Request(self._future(), prepared, lane, submitted_s, units, [None] * units)
        assert self._device is not None
        self._device.put(task, request, self._clock())
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

    def _left(self, held: "_Held") -> None:
        held.give_back()
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
            self._tasks[name] = _Served(task, room, asyncio.Semaphore(1))
        _settle(ready, None, None)

    def _ran(self, batch: BatchReport) -> None:
        self._tasks[batch.task].totals.add(batch)
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


def _same(error: Exception) -> Exception:
    """The same error for another caller, without the traceback that the first one gathered."""
    if isinstance(error, InferenceFailed):
        return _again(error)
    copied = type(error).__new__(type(error))  # `copy` would call its __init__ with args alone
    copied.args = error.args
    copied.__dict__.update(error.__dict__)
    copied.__cause__ = error.__cause__
    return copied


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
