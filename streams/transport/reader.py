"""The batch reader: a Faust service that owns one agent's consumer and feeds it one event a poll.

It decides nothing about records. It joins its group (`joining`), reads, notes every batch in the partition's ledger
(`intake`), hands a poll's batches to the agent's channel, pauses a partition while too much is in flight
(`partitions`), opens a partition only after its state is recovered (`openings`), commits the end of the contiguous
finished prefix, and gives partitions up in order (`handover`). One reader is one consumer group, so that slow media
never holds clicks up and each agent scales by itself.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import ConsumerStoppedError, KafkaError
from mode import Service

from streams.clock import Clock
from streams.errors import Retry
from streams.sections.kafka import Kafka
from streams.sections.kafka import Reader as ReaderSettings
from streams.topology.topics import prefixed
from streams.transport.batch import PartitionBatch, event_of
from streams.transport.client import check_not_refused, close
from streams.transport.consumer import Profile, consumer_for
from streams.transport.durable import Commit
from streams.transport.handover import Handover, HandoverObserver
from streams.transport.intake import Intake, IntakeObserver
from streams.transport.joining import join
from streams.transport.lease import BEAT_S, Lease
from streams.transport.ledger import Entry
from streams.transport.naps import Naps
from streams.transport.offsets import OffsetObserver, Offsets, on_heartbeat, only_as_member
from streams.transport.openings import OpeningObserver, Openings, StatefulAgent
from streams.transport.pace import keep_pace
from streams.transport.partitions import Partitions
from streams.transport.patience import be_patient
from streams.transport.standing import Standing

log = logging.getLogger(__name__)


class ReaderObserver(IntakeObserver, OffsetObserver, OpeningObserver, HandoverObserver, Protocol):
    """What the metrics want to know of a reader; called a batch or less."""

    def partition_left(self, partition: int) -> None: ...
    def paused(self, partitions: int) -> None: ...
    def beat(self, partition: int, sent_ms: int, now_ms: int) -> None: ...
    def aged(self, seconds: float) -> None: ...


class BatchReader(Service):
    """One agent's consumer, ledgers and committer."""

    mundane_level = "debug"  # of mode's "Starting..." and "Stopping..."

    def __init__(
        self,
        app: Any,
        *,
        topic: str,
        group: str,
        channel: Any,
        agent: StatefulAgent,
        kafka: Kafka,
        reader: ReaderSettings,
        profile: Profile,
        drain_s: float,
        clock: Clock,
        observer: ReaderObserver,
        fatal: Callable[[BaseException], None],
        lease: Lease,
        partitions: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.app = app
        self.topic = topic
        self._commit_group: Commit[Any] | None = None
        # where this worker answers queries; the group is told when it is joined
        self.address: str | None = None
        self.group = group
        self._channel = channel
        self._agent = agent
        self._kafka = kafka
        self._reader = reader
        self._profile = profile
        self._clock = clock
        self._observer = observer
        self._fatal = fatal
        self._lease = lease
        self._offsets = Offsets(group, kafka.request_timeout_s, observer)
        self._owned = Partitions(profile.batches_in_flight, reader.bytes_in_flight)
        self._openings = Openings(
            self._owned, agent, clock, observer, lease, group, lambda: self._stopping, self.sleep
        )
        self._intake = Intake(
            topic,
            self._owned,
            Naps(profile.left_ms),
            clock,
            observer,
            stay_closed=lambda: self._commit_group is not None and self._commit_group.commits_offsets,
            stopping=lambda: self._stopping,
            spawn=self._spawn,
            sleep=self.sleep,
        )
        self._handover = Handover(
            self._owned,
            self._offsets,
            lease,
            clock,
            observer,
            group,
            partitions=partitions,
            drain_s=drain_s,
            take=self._open,
            left=self._left,
            stopping=lambda: self._stopping,
            fail=self.fail,
            fatal=fatal,
        )
        self._stopping = False

    def attach(self, commit: Commit[Any]) -> None:
        """What makes effects durable; called once, before the start."""
        self._commit_group = self._openings.commit = self._handover.commit = commit

    # -- what others ask

    @property
    def ready(self) -> bool:
        """Whether the group was joined and every owned partition's state is in memory."""
        return self._handover.joined and len(self._owned.open) == len(self._owned.ledgers)

    @property
    def owned(self) -> list[int]:
        """Partitions that this worker owns now."""
        return sorted(tp.partition for tp in self._owned.ledgers)

    @property
    def closed(self) -> list[int]:
        """Owned partitions whose state is not in memory yet."""
        return sorted(tp.partition for tp in self._owned.ledgers if tp not in self._owned.open)

    def standing(self, partition: int) -> Standing | None:
        """Where a partition stands; None for one that this worker does not own."""
        tp = self._tp(partition)
        ledger = self._owned.ledgers.get(tp)
        return None if ledger is None else self._offsets.standing(tp, ledger, tp in self._owned.open)

    def finish(self, batch: PartitionBatch) -> None:
        """The batch's effects are durable."""
        tp = self._tp(batch.partition)
        if self._owned.finish(tp, batch.entry):
            now_ms = self._clock.wall_ms()
            if batch.records:
                self._offsets.finished(tp, batch.records[-1].timestamp)
                self._observer.aged((now_ms - batch.records[0].timestamp) / 1000)
            for sent_ms in batch.beats:
                self._observer.beat(batch.partition, sent_ms, now_ms)
            self._release()

    def in_flight(self, partition: int) -> list[Entry]:
        """Batches of a partition that are not done, in the order of their offsets."""
        ledger = self._owned.ledgers.get(self._tp(partition))
        return [] if ledger is None else ledger.unfinished

    def fail(self, error: BaseException, partition: int | None = None) -> None:
        """A group failed: drop what is not durable (of one partition, or of all) and start over. Anything but Retry
        stops the worker."""
        tps = set(self._owned.ledgers) if partition is None else {self._tp(partition)}
        if not isinstance(error, Retry):
            self._fatal(error)
        elif self._stopping:
            self._handover.give_up()
        elif self._openings.begin_rewind(tps):
            log.warning("%s: effects were not confirmed, starting over from what is: %s", self.group, error)
            self._spawn(self._openings.start_over(tps))

    # -- life

    async def on_start(self) -> None:
        """Join the group; waits for a broker as long as it takes, saying so once."""
        self._spawn(self._join())
        self._spawn(self._beat())

    async def _beat(self) -> None:
        """Notice when this process stood still so long that its partitions may have a new owner."""
        self._lease.renew()  # it was made long before: models had to load
        while not self.should_stop:
            still_s = self._lease.beat()
            if still_s:
                self.fail(Retry(f"this worker stood still for {still_s:.1f} s"))
            await asyncio.sleep(BEAT_S)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run beside the caller, owned by this service; what it raises stops the worker."""

        async def guarded() -> None:
            try:
                await work
            except Exception as error:  # every bug below here must end the process, not a task
                if not (self._stopping and isinstance(error, (ConsumerStoppedError, Retry))):
                    self._fatal(error)

        self.add_future(guarded())

    async def _join(self) -> None:
        topic = prefixed(self._kafka.topic_prefix, self.topic)
        consumer = await join(
            self._consumer,
            topic,
            self._handover,
            self._owned,
            self._kafka,
            stopped=lambda: bool(self.should_stop),
            sleep=self.sleep,
        )
        if consumer is None:
            return
        only_as_member(consumer)
        on_heartbeat(consumer, self._clock.monotonic_s, self._lease.confirm)
        self._spawn(self._commit_regularly())
        await self._read(consumer)

    def _consumer(self) -> AIOKafkaConsumer:
        consumer = consumer_for(self._kafka, self._reader, self._profile, self.group, self.address)
        be_patient(consumer._client, self._clock)
        if self._profile.pace_ms:
            keep_pace(consumer, self._profile.pace_ms / 1000, self._reader.fetch_full_bytes, self._clock)
        return consumer

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        backoff_s = 0.1
        while not self.should_stop and not self._stopping:
            try:
                found = await consumer.getmany(timeout_ms=200)
            except KafkaError as error:
                check_not_refused(error, self._kafka)
                log.warning("%s: cannot read: %s", self.group, error)
                await self.sleep(backoff_s)
                backoff_s = min(backoff_s * 2, 5.0)
                continue
            backoff_s = 0.1
            poll = [
                batch
                for tp, records in found.items()
                if (batch := self._intake.batch(tp, records)) is not None
            ]
            if poll:
                await self._channel.put(event_of(self.app, poll))
                self._hold()
            if found:
                # a full buffer makes getmany return at once, for ever: let the others run
                await asyncio.sleep(0)

    # -- flow control

    def _hold(self) -> None:
        if self._owned.hold():
            self._observer.paused(len(self._owned.held))

    def _release(self) -> None:
        if self._owned.release():
            self._observer.paused(len(self._owned.held))

    # -- partitions come and go

    def _open(self, tps: list[TopicPartition]) -> None:
        self._spawn(self._openings.open_all(tps))

    def _left(self, tp: TopicPartition) -> None:
        """The partition is no longer this worker's."""
        self._intake.left(tp)
        self._agent.drop(tp.partition)
        self._observer.partition_left(tp.partition)

    # -- offsets

    async def _commit_regularly(self) -> None:
        while not self.should_stop:
            await self.sleep(self._reader.commit_interval_s)
            await self._handover.commit_offsets()
            if self._owned.consumer is not None:
                self._offsets.measure_lag(self._owned.consumer, self._owned.ledgers, self._clock.wall_ms())

    # -- the end

    async def finish_up(self, budget_s: float) -> None:
        """Read nothing more, let work in flight finish within the budget, commit. Called once, before stop."""
        self._stopping = True
        await self._handover.end(budget_s)

    async def on_stop(self) -> None:
        """Leave the group and close the connections, bounded."""
        self._stopping = True
        consumer, self._owned.consumer = self._owned.consumer, None
        if consumer is not None:
            await close(consumer)

    def _tp(self, partition: int) -> TopicPartition:
        return TopicPartition(prefixed(self._kafka.topic_prefix, self.topic), partition)
