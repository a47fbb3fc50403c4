"""A simulated worker: the real agent, reader, ledgers, commit and producer, wired as `streams.worker.app` wires them,
in a process of its own on the virtual loop. Faust's part, handing an event from a channel to an agent, is a queue."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

from aiokafka.errors import KafkaError

from simulated.loop import Process, VirtualClock, VirtualLoop
from streams.agents.base import Services
from streams.agents.clicks import ClicksAgent
from streams.inference.service import InferenceService
from streams.observe.catalogue import Metrics
from streams.settings import Settings
from streams.traces import NO_SPANS
from streams.transport.reader import BatchReader
from streams.worker.line import line_for

METRICS = Metrics("simulated")  # one for all: a registry costs more than a run


class _Channel:
    """Stands for the Faust channel and the stream over it."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Any] = asyncio.Queue(1024)

    async def put(self, event: Any) -> None:
        await self._queue.put(event)

    def noack(self) -> "_Channel":
        return self

    async def events(self) -> AsyncIterator[Any]:
        while True:
            yield await self._queue.get()


_APP = SimpleNamespace(
    consumer_generation_id=1,
    create_event=lambda key, value, headers, message: SimpleNamespace(value=value),
)


class SimulatedWorker:
    """`failed` is told what stops it from inside."""

    def __init__(
        self, loop: VirtualLoop, name: str, settings: Settings, failed: Callable[[str, BaseException], None]
    ) -> None:
        self.process: Process = loop.process(name)
        self.name = name
        self._settings = settings
        self._failed = failed
        self._loop = loop
        self._clock = VirtualClock(loop)
        self.gone = False
        self._reader: BatchReader | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks.append(self.process.run(self._guarded(self._run)))

    async def _run(self) -> None:
        settings, clock = self._settings, self._clock
        channel = _Channel()
        self.agent = agent = ClicksAgent(
            Services(settings, clock, METRICS, cast(InferenceService, None), "sim")
        )
        made = line_for(
            agent,
            app=_APP,
            channel=channel,
            settings=settings,
            clock=clock,
            fatal=self.fail,
            tracing=NO_SPANS,
        )
        self._reader, self._commit, self._producer = made.reader, made.commit, made.producer
        while self._producer is not None:
            try:
                await self._producer.start()
                break
            except (KafkaError, OSError):
                await asyncio.sleep(0.2)
        self._spawn(self._commit.run)
        self._spawn(lambda: agent.run(cast(Any, channel)))
        await agent.start()
        await made.reader.maybe_start()

    def _spawn(self, work: Callable[[], Awaitable[None]]) -> None:
        self._tasks.append(asyncio.ensure_future(self._guarded(work)))

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:  # a bug: the run must fail with it
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        self._failed(self.name, error)

    def kill(self) -> None:
        """SIGKILL."""
        self.gone = True
        self.process.kill()

    def terminate(self) -> None:
        """SIGTERM: as `streams.worker.app.Worker.stop`; `gone` once it has ended."""
        self.process.run(self._guarded(self._stop))

    async def _stop(self) -> None:
        self._tasks[0].cancel()
        if self._reader is not None:
            if self._reader.started:
                await self._reader.finish_up(self._settings.worker.drain_s)
            for task in self._tasks[1:]:
                task.cancel()
            await self._commit.cancel()
            await self._reader.stop()
            await self.agent.stop()
            if self._producer is not None:
                await self._producer.stop(timeout_s=2.0)
        self.kill()
