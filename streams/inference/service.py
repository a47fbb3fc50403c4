"""The seam by which agents reach the models: `await service.submit(task, payload)`.

    submit ─► admission ─► prepare (crew) ─► planner ─► forward (device thread) ─► finish (crew) ─► Answer
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
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from models.errors import BadInput, ModelError
from models.inference.batching import ORDINARY, Lane
from models.inference.steps import kind_and_place
from models.registry import task_class
from models.types import LoadOptions, ModelInfo, Outcome, Payload, Task
from streams.inference.admission import Admission
from streams.inference.crew import Crew, Ended
from streams.inference.device import BatchReport, Device, Loaded, Reports, Request
from streams.inference.mailbox import Mailbox
from streams.inference.repeats import How, Key, Repeats, key_of
from streams.inference.residence import Residence
from streams.inference.rooms import Served, is_giant
from streams.inference.totals import Answer, Observer, Stages, Totals

_IDLE_THREAD_ENDS_S = 0.5
_HASHED_ON_LOOP_BYTES = 1 << 16  # more is hashed on a thread


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
    weights_bytes: int = (
        sys.maxsize
    )  # of all tasks' models; where they do not fit, the idle ones are unloaded
    idle_s: float | None = None  # unload a model that was not asked for so long; None: never for that alone
    prepare_threads: int = 2  # one or two batches ahead of the device is enough


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
        self._tasks: dict[str, Served] = {}
        self._repeats = Repeats(self._limits.kept_bytes)
        self._open: dict[Request, Key] = {}  # all that was let in, so that all can be ended
        self._idle = asyncio.Event()
        self._idle.set()
        self._refusal: InferenceFailed | None = None  # for new submits
        self._failure: InferenceFailed | None = None  # for those in flight too
        self._hashers = ThreadPoolExecutor(1, "inference-hash")
        self._crew: Crew | None = None
        self._loads: dict[str, asyncio.Future[Task]] = {}
        self._residence = Residence(
            self._tasks, self._limits.weights_bytes, self._limits.idle_s, clock, self._load, self._unload
        )
        self._device: Device | None = None
        self._thread_ended = asyncio.Event()

    # On the loop, for callers.

    async def start(self, tasks: Mapping[str, LoadOptions]) -> None:
        """Load these tasks; returns when each has labelled its own examples, so that no shape is new to it.

        Raises KeyError for a task that is not registered, WeightsMismatch, or an example's error.
        """
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        mailbox = Mailbox(loop)
        self._crew = self._make_crew(mailbox)
        self._crew.start()
        self._device = self._make_device(mailbox, self._crew, ready)
        # Finding a class imports torch and more, seconds of work: for the device thread too.
        self._device.start(
            {name: partial(_load_task, self._find_class, name, options) for name, options in tasks.items()}
        )
        try:
            await asyncio.shield(ready)
            self._residence.start()
        except BaseException:
            await self.stop(0.0)
            raise

    async def submit(self, task: str, payload: Payload, lane: Lane = ORDINARY) -> Answer:
        """Label one payload. Waits while the task is full; safe to cancel at any time.

        Raises KeyError for a task that was not started, BadInput (`poison` for what broke the network),
        OutOfMemory, InferenceFailed if the device is gone, InferenceClosed while stopping.
        """
        self._check_open()
        served = self._tasks[task]
        submitted_s = self._clock()
        if len(payload.data) <= _HASHED_ON_LOOP_BYTES:
            key = key_of(task, payload)
        else:
            loop = asyncio.get_running_loop()
            key = await loop.run_in_executor(self._hashers, key_of, task, payload)
            self._check_open()
        found = self._known(task, served, key)
        if found is None:
            while found is None and not self._residence.here(task):
                await self._residence.wait(task)
                self._check_open()
                found = self._known(task, served, key)
        if found is None:
            if not served.admission.enter_now(len(payload.data)):
                await served.admission.enter(len(payload.data))
                found = self._known(task, served, key)  # others came meanwhile
                if found is not None or self._refusal is not None:
                    served.admission.resize(-1, -len(payload.data))
                    self._check_open()
            if found is None:
                found = self._begin(task, served, key, payload, lane, submitted_s)
        return found if isinstance(found, Answer) else await self._answer(found)

    def _check_open(self) -> None:
        if self._refusal is not None:
            raise _again(self._refusal)

    def _known(self, task: str, served: Served, key: Key) -> Answer | Request | None:
        """The answer for this content, or the request that will have it."""
        outcome = self._repeats.kept(key)
        if outcome is not None:
            return self._repeated(task, served, outcome, "kept")
        return self._repeats.joined(key)

    def _begin(
        self, task: str, served: Served, key: Key, payload: Payload, lane: Lane, submitted_s: float
    ) -> Request:
        assert served.task is not None  # busy since it was let in, and what is busy stays
        request = Request(
            served.task, task, payload, lane, submitted_s, self._clock(), bytes=len(payload.data)
        )
        self._open[request] = key
        self._idle.clear()
        self._repeats.begin(key, request)
        assert self._crew is not None  # a task is known only after `start`
        self._crew.prepare(request)
        return request

    @staticmethod
    async def _answer(request: Request) -> Answer:
        """Wait for it, in a future of one's own: who goes away leaves the others alone."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        request.futures.append(future)
        try:
            return await future
        except asyncio.CancelledError:
            if future in request.futures:
                request.futures.remove(future)
                # The last one to go; its units still take up room in the planner or on the device.
                request.abandoned = not request.futures
            raise

    async def stop(self, timeout_s: float) -> None:
        """Refuse new payloads, finish those in flight within `timeout_s`, end the rest with InferenceClosed.

        Returns within `timeout_s` and half a second even if a forward hangs: that ends with the process.
        """
        deadline_s = self._clock() + timeout_s
        closed = InferenceClosed("the inference service is stopping")
        self._refusal = self._refusal or closed
        for served in self._tasks.values():
            served.admission.fail(closed)
        await _wait(self._idle, timeout_s)
        self._end_all(closed)
        self._hashers.shutdown(wait=False, cancel_futures=True)
        if self._crew is not None:
            self._crew.stop()
        if self._device is not None:
            self._device.stop()
            await _wait(self._thread_ended, max(_IDLE_THREAD_ENDS_S, deadline_s - self._clock()))

    @property
    def saturated(self) -> frozenset[str]:
        """The tasks to which a submit would wait now."""
        return frozenset(name for name, served in self._tasks.items() if served.admission.saturated)

    @property
    def totals(self) -> Mapping[str, Totals]:
        """Counts since the start, by task."""
        return {name: served.totals for name, served in self._tasks.items()}

    def model(self, task: str) -> ModelInfo:
        """Whose labels a started task gives. Raises KeyError."""
        return self._tasks[task].model

    # On the loop, inside.

    def _repeated(self, task: str, served: Served, outcome: Outcome, how: How) -> Answer:
        served.totals.joined += how == "joined"
        served.totals.kept += how == "kept"
        if self._observer is not None:
            self._observer.repeated(task, how)
        return Answer(outcome, repeated=how)

    def _put(self, request: Request) -> None:
        assert self._device is not None
        self._device.put([request])

    def _grown(self, requests: Sequence[Request]) -> None:
        """They are decoded, and take more room."""
        for request in requests:
            if request in self._open:
                served = self._tasks[request.name]
                served.grow(request)
                if is_giant(request):
                    served.place_giant(request, self._put)

    def _ended(self, ended: Sequence[Ended]) -> None:
        """Answers and errors, each to all who wait for it."""
        now_s = self._clock()
        for request, result in ended:
            key = self._open.pop(request, None)
            if key is None:  # ended before, by a failure
                continue
            served = self._tasks[request.name]
            served.leave(request, self._put)
            outcome = result if isinstance(result, Outcome) else None
            self._repeats.end(key, request, outcome)
            if isinstance(result, BaseException):
                self._failed(served, request, result)
            elif outcome is not None:
                self._succeeded(served, request, outcome, now_s)
        self._residence.ended()
        if not self._open:
            self._idle.set()

    def _succeeded(self, served: Served, request: Request, outcome: Outcome, now_s: float) -> None:
        deadline_s = request.lane.deadline_s
        if deadline_s is not None and now_s - request.submitted_s > deadline_s:
            served.totals.late += 1
            if self._observer is not None:
                self._observer.late(request.name)
        for number, future in enumerate(request.futures):
            if future.done():
                continue
            if number:
                future.set_result(self._repeated(request.name, served, outcome, "joined"))
            else:
                future.set_result(Answer(outcome, _stages(request, now_s)))

    def _failed(self, served: Served, request: Request, error: BaseException) -> None:
        if isinstance(error, ModelError):
            served.totals.failed += 1
            if self._observer is not None:
                reason = error.reason if isinstance(error, BadInput) else "out_of_memory"
                self._observer.failed(request.name, reason)
        for future in request.futures:
            if not future.done():
                future.set_exception(error)
                error = _same(error)

    def _end_all(self, failure: InferenceFailed) -> None:
        self._refusal = self._refusal or failure
        self._residence.stop()
        for served in self._tasks.values():
            served.admission.fail(failure)
            served.giants.clear()
        self._ended([(request, _again(failure)) for request in list(self._open)])

    def _load(self, name: str) -> "asyncio.Future[Task]":
        assert self._device is not None
        self._loads[name] = asyncio.get_running_loop().create_future()
        self._device.load(name)
        return self._loads[name]

    def _loaded(self, name: str, task: Task) -> None:
        future = self._loads.pop(name)
        if not future.done():
            future.set_result(task)

    def _unload(self, name: str) -> None:
        assert self._device is not None
        self._device.unload(name)

    def _started(self, ready: "asyncio.Future[None]", tasks: dict[str, Loaded]) -> None:
        for name, one in tasks.items():
            room = Admission(self._limits.units_in_flight, self._limits.bytes_in_flight)
            self._tasks[name] = Served(one.task, one.model, one.size_bytes, room)
        if not ready.done():
            ready.set_result(None)

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
            ready.set_exception(error if isinstance(error, Exception) else InferenceFailed(repr(error)))
            return
        failure = InferenceFailed(f"the device thread died: {kind_and_place(error)}: {error}")
        failure.__cause__ = error
        self._end_all(failure)
        self.failed.set()

    def _make_crew(self, mailbox: Mailbox) -> Crew:
        """Decoded requests go to the device at once; the loop hears of their room first, then of their end."""

        def prepared(requests: list[Request]) -> None:
            mailbox.post(self._grown, requests)
            ordinary = [request for request in requests if not is_giant(request)]
            if ordinary:
                assert self._device is not None
                self._device.put(ordinary)

        return Crew(self._limits.prepare_threads, prepared, partial(mailbox.post, self._ended))

    def _make_device(self, mailbox: Mailbox, crew: Crew, ready: "asyncio.Future[None]") -> Device:
        """Its reports go to the loop by the mailbox, whole requests to the crew to be finished."""
        reports = Reports(
            ready=lambda tasks: mailbox.post(self._started, ready, tasks),
            loaded=partial(mailbox.post, self._loaded),
            ran=lambda batch: mailbox.post(self._ran, batch),
            whole=crew.finish,
            ended=lambda error: mailbox.post(self._device_ended, ready, error),
        )
        return Device(self._clock, reports, self._compute_threads, self._limits.weights_bytes)


def _load_task(find_class: Callable[[str], type[Task]], name: str, options: LoadOptions) -> Task:
    return find_class(name).load(options)


def _stages(request: Request, now_s: float) -> Stages:
    """Where the time went; what had nothing to run was prepared and finished in one."""
    prepared_s = request.prepared_s or now_s
    ran_s = request.ran_s or prepared_s
    return Stages(
        room_s=request.entered_s - request.submitted_s,
        prepare_s=prepared_s - request.entered_s,
        queue_s=max(0.0, ran_s - prepared_s - request.device_s),
        device_s=request.device_s,
        finish_s=now_s - ran_s,
    )


def _again(failure: InferenceFailed) -> InferenceFailed:
    """A copy to raise: one object raised many times gathers a traceback each time."""
    copy = type(failure)(*failure.args)
    copy.__cause__ = failure.__cause__
    return copy


def _same(error: BaseException) -> BaseException:
    """The same error for another caller, without the traceback that the first one gathered."""
    copied = type(error).__new__(type(error))  # `copy` would call its __init__ with args alone
    copied.args = error.args
    copied.__dict__.update(error.__dict__)
    copied.__cause__ = error.__cause__
    return copied


async def _wait(event: asyncio.Event, timeout_s: float) -> bool:
    """Whether the event was set in time."""
    try:
        await asyncio.wait_for(event.wait(), timeout_s)
    except asyncio.TimeoutError:
        return event.is_set()
    return True
