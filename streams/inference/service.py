"""The seam by which agents reach the models: `await service.submit_all(task, payloads)`.

    submit_all ─► admission ─► prepare (crew) ─► planner ─► forward (device thread) ─► finish (crew) ─► Answers
                  waits while      CPU            batches     one thread a process,       CPU
                  the task is full                by cost     all tasks

- One thread owns the device, loads all networks on it and runs them; the event loop never computes.
- What a task has in flight is bounded in units and bytes, each task by itself: one that is full holds up its
  own callers alone, whose agents then stop pulling. Nothing is shed.
- The same content is labelled once: what is in flight is joined, what was answered is kept for a while.
- Every future ends. A cancelled caller leaves its batch mates alone. If the device thread dies it is started anew, a
  few times, and what was on the device is done again; after that all who wait and all who come get InferenceFailed,
  and `failed` is set, so that the worker can stop.
- Payloads travel in groups, each behind one future; what other threads have for the loop gathers in a mailbox and
  wakes it once, however much it is.

torch is imported by the device thread; importing this module costs nothing.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from models.errors import DeviceRuined
from models.inference.batching import ORDINARY, Lane
from models.inference.steps import kind_and_place
from models.registry import task_class
from models.types import LoadOptions, ModelInfo, Payload, Task
from streams.inference.admission import Admission
from streams.inference.answers import Answer
from streams.inference.crew import Crew, Ended
from streams.inference.desk import Desk
from streams.inference.device import BatchReport, Device, Loaded, Reports
from streams.inference.entrance import Entrance
from streams.inference.failures import InferenceClosed, InferenceFailed, again
from streams.inference.limits import InferenceLimits
from streams.inference.mailbox import Mailbox
from streams.inference.request import Call, Request, Result
from streams.inference.residence import Residence
from streams.inference.restarts import Restarts
from streams.inference.rooms import Served
from streams.inference.totals import Observer, Totals

log = logging.getLogger(__name__)

_IDLE_THREAD_ENDS_S = 0.5


class InferenceService:
    """All tasks of this process on one device. Make, `start`, `submit_all` at will, `stop`: once, on one loop."""

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
        self._desk = Desk(self._tasks, self._limits.kept_bytes, observer, clock, self._put)
        self._refusal: InferenceFailed | None = None  # for new submits
        self._crew: Crew | None = None
        self._loads: dict[str, asyncio.Future[Task]] = {}
        self._residence = Residence(
            self._tasks, self._limits.weights_bytes, self._limits.idle_s, clock, self._load, self._unload
        )
        self._entrance = Entrance(self._desk, self._residence, clock, self._check_open, self._hand_over)
        self._device: Device | None = None
        self._restarts = Restarts(self._limits.restarts, self._limits.restarts_within_s)
        self._died = ""  # of what the device thread did, the last time that it was started anew
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
        """Label one payload: a group of one, whose error is raised."""
        (result,) = await self.submit_all(task, [payload], lane)
        if isinstance(result, Answer):
            return result
        try:
            raise result
        finally:
            del result  # its traceback leads to this frame: it must not lead back

    async def submit_all(self, task: str, payloads: Sequence[Payload], lane: Lane = ORDINARY) -> list[Result]:
        """Label a group of payloads; returns when all are done, each one's answer or error in its place: a ModelError
        (BadInput with `poison` for what broke the network, OutOfMemory), or InferenceInterrupted, which may pass.

        Waits while the task is full, and works meanwhile on what there was room for. Safe to cancel at any time.
        Raises KeyError for a task that was not started, InferenceFailed if the device is gone, InferenceClosed while
        stopping.
        """
        self._check_open()
        served = self._tasks[task]
        call = Call([None] * len(payloads), asyncio.get_running_loop().create_future())
        try:
            await self._entrance.enter(task, served, payloads, lane, call)
            if call.all_found():
                await call.future
        except BaseException:
            self._desk.leave(call)
            raise
        return call.results

    def _hand_over(self, begun: Sequence[Request]) -> None:
        assert self._crew is not None  # a task is known only after `start`
        self._crew.prepare(begun)

    def _check_open(self) -> None:
        if self._refusal is not None:
            raise again(self._refusal)

    async def stop(self, timeout_s: float) -> None:
        """Refuse new payloads, finish those in flight within `timeout_s`, end the rest with InferenceClosed.

        Returns within `timeout_s` and half a second even if a forward hangs: that ends with the process.
        """
        deadline_s = self._clock() + timeout_s
        closed = InferenceClosed("the inference service is stopping")
        self._refusal = self._refusal or closed
        for served in self._tasks.values():
            served.admission.fail(closed)
        await _wait(self._desk.idle, timeout_s)
        self._end_all(closed)
        self._entrance.close()
        if self._crew is not None:
            self._crew.stop()
        if self._device is not None:
            self._device.stop()
            await _wait(self._thread_ended, max(_IDLE_THREAD_ENDS_S, deadline_s - self._clock()))

    @property
    def failure(self) -> str:
        """Why `failed` is set, in words; empty while it is not."""
        return str(self._refusal) if self.failed.is_set() else ""

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

    def _put(self, request: Request) -> None:
        assert self._device is not None
        self._device.put([request])

    def _ended(self, ended: Sequence[Ended], batch: BatchReport | None) -> None:
        self._desk.ended(ended)
        self._residence.ended()
        if batch is not None:  # last: an observer that fails must cost no answer
            self._ran(batch)

    def _end_all(self, failure: InferenceFailed) -> None:
        self._refusal = self._refusal or failure
        self._residence.stop()
        self._desk.end_all(failure)
        self._residence.ended()

    def _load(self, name: str) -> "asyncio.Future[Task]":
        assert self._device is not None
        self._loads[name] = asyncio.get_running_loop().create_future()
        self._device.load(name)
        return self._loads[name]

    def _loaded(self, name: str, task: Task) -> None:
        future = self._loads.pop(name, None)
        if future is None:  # after the thread's death: for those who were there
            self._tasks[name].task = task
        elif not future.done():
            future.set_result(task)

    def _unload(self, name: str) -> None:
        assert self._device is not None
        self._device.unload(name)

    def _started(self, ready: "asyncio.Future[None]", tasks: dict[str, Loaded]) -> None:
        for name, one in tasks.items():
            room = Admission(self._limits.units_in_flight, self._limits.bytes_in_flight)
            self._tasks[name] = Served(one.task, one.model, one.size_bytes, room)
            if self._observer is not None:
                self._observer.uncaptured(name, one.uncaptured)
        if not ready.done():
            ready.set_result(None)

    def _ran(self, batch: BatchReport) -> None:
        self._tasks[batch.task].totals.add(batch)
        if self._observer is not None:
            self._observer.batch_done(batch)

    def _device_ended(self, ready: "asyncio.Future[None]", error: BaseException | None) -> None:
        if error is None:
            self._thread_ended.set()
            return
        if not ready.done():
            self._thread_ended.set()
            # Anything but an Exception (SystemExit, say) would end the loop itself.
            ready.set_exception(error if isinstance(error, Exception) else InferenceFailed(repr(error)))
            return
        assert self._device is not None
        died = f"the device thread died: {kind_and_place(error)}: {error}"
        if self._died and self._device.loading:
            died += f" (while it loaded its models anew, after this: {self._died})"
        hopeless = isinstance(error, DeviceRuined) or self._device.loading or self._refusal is not None
        if not hopeless and self._restarts.allowed(self._clock()):
            self._restart(died, type(error).__name__)
            return
        self._thread_ended.set()
        failure = InferenceFailed(died)
        failure.__cause__ = error
        self._end_all(failure)
        self.failed.set()

    def _restart(self, died: str, kind: str) -> None:
        """What was on the device is done again; what waits for it goes on waiting."""
        assert self._device is not None
        self._died = died
        log.error("%s; it is started anew", died)
        if self._observer is not None:
            self._observer.restarted(kind)
        for_whom = self._device.on_device()
        self._device.restart()
        self._hand_over(self._desk.begin_again(for_whom))
        self._residence.ended()

    def _make_crew(self, mailbox: Mailbox) -> Crew:
        """Decoded requests go to the device at once; the loop hears of their room first, then of their end."""

        def prepared(requests: list[Request]) -> None:
            grown = [request for request in requests if request.grew]
            if grown:
                mailbox.post(self._desk.grown, grown)
                requests = [request for request in requests if not request.is_giant]
            if requests:
                assert self._device is not None
                self._device.put(requests)

        return Crew(self._limits.prepare_threads, prepared, partial(mailbox.post, self._ended))

    def _make_device(self, mailbox: Mailbox, crew: Crew, ready: "asyncio.Future[None]") -> Device:
        """Its reports go to the loop by the mailbox; of a batch by the crew, which finishes its requests."""
        reports = Reports(
            ready=lambda tasks: mailbox.post(self._started, ready, tasks),
            loaded=partial(mailbox.post, self._loaded),
            ran=crew.finish,
            ended=lambda error: mailbox.post(self._device_ended, ready, error),
        )
        return Device(self._clock, reports, self._compute_threads, self._limits.weights_bytes)


def _load_task(find_class: Callable[[str], type[Task]], name: str, options: LoadOptions) -> Task:
    return find_class(name).load(options)


async def _wait(event: asyncio.Event, timeout_s: float) -> bool:
    """Whether the event was set in time."""
    try:
        await asyncio.wait_for(event.wait(), timeout_s)
    except asyncio.TimeoutError:
        return event.is_set()
    return True
