"""The composition root: the only place where settings, agents, readers, producers and Faust are wired together.

Importing it does nothing. One worker is one process: a Faust app whose agents read channels, one batch reader and
one group commit an agent, one producer, one inference service, one observation port.
"""

import asyncio
import importlib.metadata
import logging
import shutil
import sys
import tempfile
from typing import Any

import faust
from aiokafka.errors import KafkaError
from faust.app.base import BootStrategy
from mode import CrashingSupervisor

from models.types import LoadOptions
from streams.agents.base import Agent, Services
from streams.agents.registry import with_companions
from streams.clock import Clock
from streams.errors import Fatal, NoBroker
from streams.heartbeat import BEATING
from streams.inference.limits import InferenceLimits
from streams.inference.service import InferenceService
from streams.observe.catalogue import Metrics
from streams.observe.guard import Guard
from streams.observe.http import ObservePort
from streams.observe.inference import InferenceMetrics
from streams.observe.sensor import Sensor
from streams.observe.tracing import tracing_for
from streams.page.face import Face, login
from streams.query.served import Served
from streams.sections.media import TaskSettings
from streams.settings import Settings
from streams.topology.admin import require_limits, require_room, require_topology
from streams.transport.client import check_not_refused
from streams.transport.heart import Heart, Pulse
from streams.transport.transactions import require_transactions
from streams.worker import collector
from streams.worker.line import Line, line_for

log = logging.getLogger(__name__)

CHANNEL_BATCHES = 1024  # the readers' flow control is far below; this only keeps a bug from eating memory


class _Boot(BootStrategy):
    """Faust's own consumer and producer stay out: the batch readers own the consumers."""

    enable_kafka = False


class HeadraceApp(faust.App):
    """A Faust app that boots without Kafka of its own."""

    mundane_level = "debug"

    BootStrategy = _Boot


class Worker:
    """Builds, starts and stops one worker. `failed` holds what stops it from inside."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self._clock = clock
        self.version = importlib.metadata.version("headrace")
        self.metrics = Metrics(self.version)
        self.port = ObservePort(
            self.metrics, healthy=self._healthy, ready=self._ready, recovering=self._recovering
        )
        self.failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._inference = InferenceService(
            clock=clock.monotonic_s,
            observer=InferenceMetrics(self.metrics),
            limits=InferenceLimits(
                kept_bytes=settings.media.kept_bytes,
                weights_bytes=settings.media.weights_bytes or sys.maxsize,
                idle_s=settings.media.unload_idle_s,
            ),
            compute_threads=settings.media.threads,
        )
        self._scratch = tempfile.mkdtemp(prefix="headrace-")
        self._sensor = Sensor(self.metrics, clock)
        self._app = HeadraceApp(
            "headrace",
            broker=f"kafka://{settings.kafka.bootstrap.split(',')[0]}",
            store="memory://",
            web_enabled=False,
            autodiscover=False,
            datadir=self._scratch,
            agent_supervisor=CrashingSupervisor,
            stream_wait_empty=False,
            monitor=self._sensor,  # type: ignore[arg-type]  # any sensor does
        )
        self._limits: dict[str, int] = {}
        self._tracing = tracing_for(settings.observe, clock, self.version, settings.kafka.client_id)
        services = Services(
            settings,
            clock,
            self.metrics,
            self._inference,
            f"headrace/{self.version}",
            self._tracing,
            self._limits,
        )
        self._lines = [self._line(agent(services)) for agent in with_companions(settings.worker.agents)]
        served = {line.agent.name: Served(line.agent, line.reader) for line in self._lines}
        self.face = Face(settings, clock, self.metrics, self.version, served)
        if settings.observe.page:
            self.port.add(self.face.routes())
        self._heart = Heart(settings.kafka, settings.observe.heartbeat_s, clock, self._pulses())
        self._starting: list[asyncio.Task[None]] = []
        self._warm: asyncio.Task[None] | None = None

    def _line(self, agent: Agent[Any]) -> Line:
        channel = self._app.channel(maxsize=CHANNEL_BATCHES)
        made = line_for(
            agent,
            app=self._app,
            channel=channel,
            settings=self.settings,
            clock=self._clock,
            fatal=self.fail,
            tracing=self._tracing,
        )

        async def run(stream: Any) -> None:
            try:
                await agent.run(stream)
            except Exception as error:
                self.fail(error)
                raise

        self._sensor.follows(agent.topic, agent.name)
        self._app.agent(channel, name=f"headrace.{agent.name}", supervisor_strategy=CrashingSupervisor)(run)
        return made

    def _pulses(self) -> list[Pulse]:
        """Of the agents whose topic may hold heartbeats."""
        return [
            Pulse(
                line.agent.topic,
                lambda reader=line.reader: reader.owned,  # type: ignore[misc]
                line.agent.metrics.beating,
                line.agent.metrics.beat_failed,
            )
            for line in self._lines
            if line.agent.topic in BEATING
        ]

    def fail(self, error: BaseException) -> None:
        """Something that cannot be repaired from within: the worker ends and says why."""
        if not self.failed.done():
            self.failed.set_result(error)

    def _healthy(self) -> dict[str, bool]:
        return {"running": not self.failed.done()}

    def _ready(self) -> dict[str, bool]:
        return {line.agent.name: line.ready for line in self._lines} | {"running": not self.failed.done()}

    def _recovering(self) -> dict[str, dict[int, tuple[int, int]]]:
        found: dict[str, dict[int, tuple[int, int]]] = {}
        for line in self._lines:
            how_far = map(line.agent.recoveries.of, line.reader.closed)
            found[line.agent.name] = {one.partition: (one.done, one.of) for one in how_far}
        return found

    @property
    def ready(self) -> bool:
        return all(self._ready().values())

    async def start(self) -> None:
        """Bind the port, wait for a broker, check the topics, start the agents; each joins when it is warm.

        Raises EnvironmentProblem for what a person must mend.
        """
        observe = self.settings.observe
        if observe.enabled:
            await self.port.start(observe.host, observe.port, Guard(observe.host, self.face.token, login))
            log.info("metrics on http://%s:%d/metrics", observe.host, self.port.port)
            self.face.bound(self.port.port)
        await self._connect()
        self.face.start()
        await self._app.start()
        self._app.flow_control.resume()  # suspended at first; streams drop what comes while it is
        if self._inference_tasks():
            self._warm = asyncio.create_task(self._warm_up())
            self._starting.append(asyncio.create_task(self._guarded(self._watch_inference())))
        for line in self._lines:
            line.grouping = asyncio.create_task(self._guarded(line.commit.run()))
            self._starting.append(asyncio.create_task(self._guarded(self._join(line))))
        if self.settings.observe.heartbeat_s:
            self._heart.start()
        collector.settle()

    async def _warm_up(self) -> None:
        await self._inference.start(self._load_options())
        collector.settle()  # what the models brought along: a walk over it takes the loop a tenth of a second

    async def _connect(self) -> None:
        """Wait for the broker as long as it takes, saying so once; then see that the topics are as declared."""
        backoff_s, said = 0.2, False
        while True:
            try:
                await require_topology(self.settings)
                require_room(self._largest_rows(), self.settings)
                self._limits.update(await require_limits(self.settings))
                if self.settings.worker.delivery == "exactly_once":
                    await require_transactions(self.settings.kafka, self.settings.kafka.group)
                for line in self._lines:
                    if line.producer is not None:
                        await line.producer.start()
            except (KafkaError, OSError, NoBroker) as error:
                cause = error.__cause__ or error
                check_not_refused(cause, self.settings.kafka)
                if not said:
                    log.warning("no broker at %s (%r); waiting for it", self.settings.kafka.bootstrap, cause)
                    said = True
                await asyncio.sleep(backoff_s)
                backoff_s = min(backoff_s * 2, 5.0)
            else:
                if said:
                    log.info("broker found at %s", self.settings.kafka.bootstrap)
                return

    def _largest_rows(self) -> dict[str, int]:
        return dict(row for line in self._lines if (row := line.agent.largest_row()) is not None)

    async def _join(self, line: Line) -> None:
        """Warm what the agent needs, then join its consumer group: nobody waits for a cold model."""
        if line.agent.tasks:
            assert self._warm is not None
            await asyncio.shield(self._warm)
        await line.agent.start()
        line.reader.address = self.face.address
        await self._app.add_runtime_dependency(line.reader)
        line.joined = True
        log.info("%s: ready for partitions", line.agent.name)

    def _load_options(self) -> dict[str, LoadOptions]:
        media = self.settings.media
        options = {}
        for task in self._inference_tasks():
            chosen = media.tasks.get(task, TaskSettings())
            options[task] = LoadOptions(
                cache=media.cache,
                folder=chosen.folder,
                device=media.device,
                dtype=media.dtype,
                options=dict(chosen.options),
            )
        return options

    def _inference_tasks(self) -> list[str]:
        return sorted({task for line in self._lines for task in line.agent.tasks})

    async def _watch_inference(self) -> None:
        await self._inference.failed.wait()
        raise Fatal(f"the inference device stopped working: {self._inference.failure}; restart the worker")

    async def _guarded(self, work: Any) -> None:
        try:
            await work
        except Exception as error:  # a bug or a missing part: the process must end with it
            self.fail(error)

    async def stop(self) -> None:
        """Finish what is in flight within the drain budget, commit, leave the groups, close everything."""
        worker = self.settings.worker
        for task in self._starting:
            task.cancel()
        await self._heart.stop()
        await asyncio.gather(*(line.reader.finish_up(worker.drain_s) for line in self._lines if line.joined))
        for line in self._lines:
            if line.grouping is not None:
                line.grouping.cancel()
            await line.commit.cancel()
        await _bounded("the app", self._app.stop(), worker.grace_s / 4)
        await asyncio.gather(*(_bounded(line.agent.name, line.agent.stop(), 2.0) for line in self._lines))
        producers = [line.producer for line in self._lines if line.producer is not None]
        await asyncio.gather(*(producer.stop(timeout_s=2.0) for producer in producers))
        await _bounded("inference", self._inference.stop(2.0), 3.0)
        await self.face.stop()
        await _bounded("tracing", self._tracing.stop(), 5.0)
        await self.port.stop()
        shutil.rmtree(self._scratch, ignore_errors=True)


async def _bounded(what: str, work: Any, timeout_s: float) -> None:
    try:
        await asyncio.wait_for(work, timeout_s)
    except asyncio.TimeoutError:
        log.warning("%s did not stop within %.0f s; going on without it", what, timeout_s)
