"""The batch reader: a Faust service that owns one agent's consumer and feeds it one event a partition batch.

It decides nothing about records. It reads, notes every batch in the partition's ledger, hands it to the agent's
channel, pauses a partition while too much is in flight (`partitions`), opens a partition only after its state is
recovered (`openings`), and commits the end of the contiguous finished prefix. One reader is one consumer group, so
that slow media never holds clicks up and each agent scales by itself.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import ConsumerStoppedError, IllegalStateError, KafkaError
from mode import Service

from streams.clock import Clock
from streams.errors import EnvironmentProblem, Retry
from streams.heartbeat import BEATING, taken_out
from streams.sections.kafka import Kafka
from streams.sections.kafka import Reader as ReaderSettings
from streams.topology.topics import prefixed
from streams.transport.batch import PartitionBatch, event_of, size_bytes
from streams.transport.client import check_not_refused, close
from streams.transport.commit import Commit
from streams.transport.consumer import Profile, check_partitions, consumer_for
from streams.transport.lease import BEAT_S, Lease
from streams.transport.ledger import Entry
from streams.transport.naps import Naps
from streams.transport.offsets import OffsetObserver, Offsets, on_heartbeat, only_as_member
from streams.transport.openings import OpeningObserver, Openings, StatefulAgent
from streams.transport.pace import keep_pace
from streams.transport.partitions import Partitions
from streams.transport.standing import Standing

log = logging.getLogger(__name__)

LAST_COMMIT_S = 1.0  # at the end, also when the drain took the whole budget


class ReaderObserver(OffsetObserver, OpeningObserver, Protocol):
    """What the metrics want to know of a reader; called a batch or less."""

    def batch_read(self, partition: int, records: int, size_bytes: int) -> None: ...
    def partition_left(self, partition: int) -> None: ...
    def rebalanced(self, seconds: float) -> None: ...
    def paused(self, partitions: int) -> None: ...
    def napping(self, partitions: int) -> None: ...
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
        self._drain_s = drain_s
        self._clock = clock
        self._observer = observer
        self._fatal = fatal
        self._lease = lease
        self._partitions = partitions
        self._naps = Naps(profile.left_ms)
        self._offsets = Offsets(group, kafka.request_timeout_s, observer)
        self._owned = Partitions(profile.batches_in_flight, reader.bytes_in_flight)
        self._openings = Openings(
            self._owned, agent, clock, observer, lease, group, lambda: self._stopping, self.sleep
        )
        self._stopping = False
        self._gave_up = False
        self._joined = False

    def attach(self, commit: Commit[Any]) -> None:
        """What makes effects durable; called once, before the start."""
        self._commit_group = self._openings.commit = commit

    # -- what others ask

    @property
    def ready(self) -> bool:
        """Whether the group was joined and every owned partition's state is in memory."""
        return self._joined and len(self._owned.open) == len(self._owned.ledgers)

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
            self._gave_up = True  # nothing after it can be confirmed: no use to wait
            self._owned.changed.set()
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
        backoff_s, said = 0.2, False
        while not self.should_stop:
            # at hand before start: partitions may come within it
            consumer = consumer_for(self._kafka, self._reader, self._profile, self.group, self.address)
            self._owned.consumer = consumer
            if self._profile.pace_ms:
                keep_pace(consumer, self._profile.pace_ms / 1000, self._reader.fetch_full_bytes, self._clock)
            try:
                consumer.subscribe([prefixed(self._kafka.topic_prefix, self.topic)], listener=_Listener(self))
                await consumer.start()
            except (KafkaError, OSError) as error:
                self._owned.consumer = None
                await close(consumer)
                check_not_refused(error, self._kafka)
                if not said:
                    log.warning("no broker at %s (%s); waiting for it", self._kafka.bootstrap, error)
                    said = True
                await self.sleep(backoff_s)
                backoff_s = min(backoff_s * 2, 5.0)
                continue
            break
        if self._owned.consumer is None:
            return
        if said:
            log.info("broker found at %s", self._kafka.bootstrap)
        only_as_member(self._owned.consumer)
        on_heartbeat(self._owned.consumer, self._clock.monotonic_s, self._lease.confirm)
        self._spawn(self._commit_regularly())
        await self._read(self._owned.consumer)

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
            seeks = dict(self._owned.seeks)
            for tp, records in found.items():
                if self._owned.seeks.get(tp) == seeks.get(
                    tp
                ):  # else they come again, from where it was set to
                    await self._hand_on(tp, records)
            if found:
                self._hold()
                # a full buffer makes getmany return at once, for ever: let the others run
                await asyncio.sleep(0)

    async def _hand_on(self, tp: TopicPartition, records: list[Any]) -> None:
        if tp not in self._owned.ledgers:
            return  # it left: its next owner starts at the committed offset
        if tp not in self._owned.open:
            if self._commit_group is not None and self._commit_group.commits_offsets:
                return  # it opens at what is committed by then, which may be further on
            self._owned.resume_at[tp] = min(
                self._owned.resume_at.get(tp, records[0].offset), records[0].offset
            )
            return
        due = self._naps.due(records, self._clock.wall_ms())
        if due < len(records):
            self._begin_nap(tp, records[due])
            records = records[:due]
        if not records:
            return
        cost = size_bytes(records)
        entry = self._owned.append(tp, records[0].offset, records[-1].offset + 1, cost)
        rest, beats = taken_out(records) if self.topic in BEATING else (records, ())
        batch = PartitionBatch(self.topic, tp.partition, rest, entry, self._clock.monotonic_s(), beats)
        if rest:
            self._observer.batch_read(tp.partition, len(rest), cost)
        await self._channel.put(event_of(self.app, batch))

    # -- records that are not due

    def _begin_nap(self, tp: TopicPartition, first: Any) -> None:
        """Let go of what was fetched of a partition from a record that is not due, and pause until it is."""
        if self._owned.consumer is None:  # stopped
            return
        self._owned.pause([tp])
        try:
            self._owned.consumer.seek(tp, first.offset)
        except IllegalStateError:
            return  # it left
        until_ms = self._naps.begin(tp, first, self._clock.wall_ms())
        self._observer.napping(len(self._naps))
        self._spawn(self._nap(tp, until_ms))

    async def _nap(self, tp: TopicPartition, until_ms: int) -> None:
        while self._naps.naps(tp, until_ms) and not self._stopping:
            left_s = (until_ms - self._clock.wall_ms()) / 1000
            if left_s <= 0:
                self._end_nap(tp)
                if tp in self._owned.open - self._owned.held:
                    self._owned.resume([tp])
                return
            await self.sleep(left_s)

    def _end_nap(self, tp: TopicPartition) -> None:
        self._naps.end(tp)
        self._observer.napping(len(self._naps))

    # -- flow control

    def _hold(self) -> None:
        if self._owned.hold():
            self._observer.paused(len(self._owned.held))

    def _release(self) -> None:
        if self._owned.release():
            self._observer.paused(len(self._owned.held))

    # -- partitions come and go

    async def revoke(self, revoked: Iterable[TopicPartition]) -> None:
        """Let work in flight finish within the budget, commit, and forget the partitions."""
        revoked = [tp for tp in revoked if tp in self._owned.ledgers]
        if not revoked:
            return
        assert self._commit_group is not None
        started_s = self._clock.monotonic_s()
        await self._drain(self._drain_s)
        await self._commit()
        unfinished = sum(self._forget(tp) for tp in revoked)
        for tp in revoked:
            await self._commit_group.close(tp.partition)
        if unfinished:
            log.warning(
                "%s: %d batches were not finished in time; their next owner repeats them",
                self.group,
                unfinished,
            )
            if not self._stopping and not self._commit_group.commits_offsets:
                # their effects are queued, and would land after the next owner's
                self._lease.lose()
                self.fail(Retry("partitions left with work unfinished"))
        self._observer.rebalanced(self._clock.monotonic_s() - started_s)
        self._observer.partitions(len(self._owned.ledgers), len(self._owned.open))

    def _forget(self, tp: TopicPartition) -> int:
        """The partition has left; how many of its batches were in flight."""
        lost = self._owned.forget(tp)
        if self._naps:
            self._end_nap(tp)
        self._offsets.forget(tp)
        self._agent.drop(tp.partition)
        self._observer.partition_left(tp.partition)
        return len(lost)

    async def assign(self, assigned: Iterable[TopicPartition]) -> None:
        """Take partitions over, closed; each opens when its state is back."""
        assigned = list(assigned)
        try:
            check_partitions(assigned, self._partitions)
        except EnvironmentProblem as problem:
            self._fatal(problem)
            return
        self._lease.confirm(self._clock.monotonic_s())
        self._owned.take(assigned)
        self._joined = True
        self._observer.partitions(len(self._owned.ledgers), len(self._owned.open))
        if assigned:
            log.info("%s: owns partitions %s", self.group, sorted(tp.partition for tp in assigned))
            self._spawn(self._openings.open_all(assigned))

    # -- offsets

    async def _commit_regularly(self) -> None:
        while not self.should_stop:
            await self.sleep(self._reader.commit_interval_s)
            await self._commit()
            if self._owned.consumer is not None:
                self._offsets.measure_lag(self._owned.consumer, self._owned.ledgers, self._clock.wall_ms())

    async def _commit(self, within_s: float = math.inf) -> None:
        assert self._commit_group is not None
        if self._owned.consumer is not None and not self._commit_group.commits_offsets:
            await self._offsets.commit(self._owned.consumer, self._owned.ledgers, within_s)

    # -- the end

    async def _drain(self, budget_s: float) -> None:
        deadline_s = self._clock.monotonic_s() + budget_s
        while self._owned.unfinished and not self._gave_up:
            left_s = deadline_s - self._clock.monotonic_s()
            if left_s <= 0:
                return
            self._owned.changed.clear()
            try:
                await asyncio.wait_for(self._owned.changed.wait(), left_s)
            except asyncio.TimeoutError:
                return

    async def finish_up(self, budget_s: float) -> None:
        """Read nothing more, let work in flight finish within the budget, commit. Called once, before stop."""
        self._stopping = True
        if self._owned.consumer is None:
            return
        started_s = self._clock.monotonic_s()
        self._owned.pause(self._owned.open)
        await self._drain(budget_s)
        left = self._owned.unfinished
        if left:
            log.warning("%s: stopping with %d batches unfinished; they will be repeated", self.group, left)
        spent_s = self._clock.monotonic_s() - started_s
        await self._commit(max(LAST_COMMIT_S, budget_s - spent_s))

    async def on_stop(self) -> None:
        """Leave the group and close the connections, bounded."""
        self._stopping = True
        consumer, self._owned.consumer = self._owned.consumer, None
        if consumer is not None:
            await close(consumer)

    def _tp(self, partition: int) -> TopicPartition:
        return TopicPartition(prefixed(self._kafka.topic_prefix, self.topic), partition)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """aiokafka's callbacks, on the app's own loop."""

    def __init__(self, reader: BatchReader) -> None:
        self._reader = reader

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        await self._reader.revoke(revoked)

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        await self._reader.assign(assigned)
