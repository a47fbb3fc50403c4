"""What an agent is, and what it is given. One file an agent; `streams.agents.registry` names the class.

An agent reads one topic. `run` is the Faust agent function: it takes the partition batches of one poll an event,
decodes and submits them; `decide` turns a group of submitted batches into effects and touches nothing else but the
agent's own state; `streams.transport.commit` performs the effects.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from faust.streams import Stream

from streams.clock import Clock
from streams.effects import Effects, Emit
from streams.inference.failures import InferenceClosed
from streams.inference.service import InferenceService
from streams.observe.agents import AgentMetrics
from streams.observe.catalogue import Metrics
from streams.refusals.deadletters import Letter, Sender, dead_letters
from streams.refusals.rejected import Place, Rejected, class_name
from streams.secrecy.sealing import Seal
from streams.settings import Settings
from streams.state.changelog import ChangelogReader
from streams.state.progress import Recoveries
from streams.state.snapshotfile import FenceOf
from streams.state.snapshots import Snapshots
from streams.topology.topics import DEAD_LETTER_BYTES, dead_letter, prefixed
from streams.traces import NO_SPANS, Tracing, trace_id
from streams.transport.batch import PartitionBatch, Poll, Record
from streams.transport.consumer import Profile
from streams.transport.durable import Commit, Submission

log = logging.getLogger(__name__)

W = TypeVar("W")


@dataclass(frozen=True, slots=True)
class Services:
    """What the composition root hands to every agent."""

    settings: Settings
    clock: Clock
    metrics: Metrics
    inference: InferenceService
    worker: str  # name and version, for dead-letter headers
    tracing: Tracing = NO_SPANS
    limits: dict[str, int] = field(
        default_factory=dict
    )  # topic -> largest batch it takes, once the cluster told

    def limit_bytes(self, topic: str) -> int:
        """The largest batch that a dead-letter or retry topic takes."""
        return self.limits.get(topic, DEAD_LETTER_BYTES)


class Agent(ABC, Generic[W]):
    """One topic's work."""

    name: ClassVar[str]  # also the metric label and the consumer group's suffix
    topic: ClassVar[str]
    tasks: tuple[str, ...] = ()  # inference tasks that must be warm before the group is joined
    companions: ClassVar[tuple[str, ...]] = ()  # agents that run wherever this one does
    period_s: ClassVar[float] = 0.0  # at most one group commit in this time; 0: as fast as they come

    def __init__(self, services: Services) -> None:
        self.services = services
        self.metrics = AgentMetrics(services.metrics, self.name, self.topic)
        self.recoveries = Recoveries(self.name, services.clock, self.metrics.recovery_remaining)
        self.commit: Commit[W] | None = None  # set by the composition root
        privacy = services.settings.privacy
        self._sender = Sender(
            f"{services.settings.kafka.group}.{self.name}",
            class_name(type(self)),
            services.worker,
            Seal.read(privacy.dead_letter_keys_file),
            privacy.mask,
        )

    @property
    def source(self) -> str:
        """The input topic whose records these are: its own, but for those who read a retry topic."""
        return self.topic

    def place(self, partition: int, record: Record) -> Place:
        """Where a record lay first, and how often it was tried."""
        return Place(self.topic, partition, record.offset, record.timestamp)

    @abstractmethod
    def profile(self) -> Profile:
        """How the reader reads for this agent."""

    @abstractmethod
    async def run(self, stream: "Stream[Poll]") -> None:
        """The Faust agent: for each batch of each poll, decode and submit."""

    @abstractmethod
    def decide(self, group: Sequence[Submission[W]]) -> Effects:
        """What a group of batches asks for."""

    async def start(self) -> None:
        """Before the group is joined: connect, read broadcast tables."""

    async def stop(self) -> None:
        """After the last commit: close connections."""

    async def recover(self, partition: int) -> None:
        """Bring a partition's state into memory; agents without state have nothing to do."""

    def healing(self, partition: int) -> Emit | None:
        """After `recover`: changelog rows to write again, since late and older ones follow them in the log."""
        return None

    def drop(self, partition: int) -> None:
        """Forget a partition's state. Those who override it call this too."""
        self.recoveries.leave(partition)

    def largest_row(self) -> tuple[str, int] | None:
        """The agent's changelog, and what a row of it takes at most, with its key; None without state."""
        return None

    def ready(self) -> bool:
        """Whether the agent could work now, apart from its partitions."""
        return True

    def changelog_reader(self, topic: str, layout: str, fence_of: FenceOf) -> ChangelogReader:
        """A reader of the agent's changelog, with local snapshots where the settings name a folder."""
        settings, snapshots = self.services.settings, None
        if settings.state.snapshots is not None:
            snapshots = Snapshots(
                settings.state.snapshots,
                prefixed(settings.kafka.topic_prefix, topic),
                layout,
                fence_of,
                self.services.clock,
                self.metrics.snapshot,
            )
        return ChangelogReader(settings.kafka, topic, snapshots, settings.state.snapshot_interval_s)

    def submit(self, batch: PartitionBatch, work: W) -> None:
        """Hand a decoded batch to the group commit."""
        assert self.commit is not None
        self.commit.submit(batch, work)

    def _say(self, partition: int, rejected: Sequence[Rejected]) -> None:
        """The first dead letter of a batch, for who follows a trace; the rate limit of the log holds floods back."""
        about = _of(self, partition, rejected[0])
        log.warning("%d dead letters, the first for %s", len(rejected), about["reason"], extra=about)

    def reject(self, effects: Effects, partition: int, rejected: Sequence[Rejected]) -> None:
        """Add the dead letters of a batch to its effects, and count them."""
        letters = [Letter(one, self.place(partition, one.record)) for one in rejected]
        limit_bytes = self.services.limit_bytes(dead_letter(self.source))
        sent = dead_letters(self.source, partition, letters, self._sender, limit_bytes)
        if sent is None:
            return
        effects.outputs.append(sent.emit)
        self.metrics.left_out(sent.left_out)
        for one in rejected:
            self.metrics.dead_lettered(one.reason)
        self._say(partition, rejected)


class TaskAgent(Agent[W]):
    """One that waits for others as it works on a batch (models, fetches): an asyncio task a batch, several at once."""

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._batches: set[asyncio.Task[None]] = set()

    @abstractmethod
    async def work_on(self, batch: PartitionBatch) -> None:
        """Decode a batch, do what it asks for and submit it. Raises InferenceClosed when it must be left undone."""

    async def run(self, stream: "Stream[Poll]") -> None:
        async for event in stream.noack().events():
            for batch in event.value:
                if not batch.lost:
                    task = asyncio.create_task(self._on(batch))
                    self._batches.add(task)
                    task.add_done_callback(self._batch_ended)

    async def _on(self, batch: PartitionBatch) -> None:
        try:
            await self.work_on(batch)
        except InferenceClosed:  # stopping: whoever reads this batch next takes it
            batch.entry.lost = True

    def _batch_ended(self, task: "asyncio.Task[None]") -> None:
        self._batches.discard(task)
        if not task.cancelled() and task.exception() is not None:
            assert self.commit is not None
            self.commit.fail(task.exception())  # a bug, not bad input: do not go on past it

    async def stop(self) -> None:
        for task in self._batches:
            task.cancel()
        if self._batches:
            await asyncio.wait(self._batches, timeout=1.0)


def _of(agent: Agent[Any], partition: int, one: Rejected) -> dict[str, Any]:
    """Which record is meant, for the log: never what it holds."""
    where = agent.place(partition, one.record)
    named = {"topic": where.topic, "partition": where.partition, "offset": where.offset}
    return {"agent": agent.name, "reason": one.reason, "trace_id": trace_id(one.record.headers), **named}


AgentClass = type[Agent[Any]]
