"""The batch reader: a Faust service that owns one agent's consumer and feeds it one event a partition batch.

It decides nothing about records. It reads, notes every batch in the partition's ledger, hands it to the agent's
channel, pauses a partition while too much is in flight, opens a partition only after its state is recovered,
and commits the end of the contiguous finished prefix. One reader is one consumer group, so that slow media
never holds clicks up and each agent scales by itself.

A partition is *closed* from assignment until its state is back, and again from a failure until it has been
rewound; records of a closed partition are not handed on.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import ConsumerStoppedError, IllegalStateError, KafkaError
from mode import Service

from streams.clock import Clock
from streams.effects import Emit
from streams.errors import EnvironmentProblem, Retry
from streams.settings import Kafka
from streams.settings import Reader as ReaderSettings
from streams.topics import prefixed
from streams.transport.batch import PartitionBatch, Record, event_of, size_bytes
from streams.transport.client import check_not_refused, client_options, close
from streams.transport.commit import Commit
from streams.transport.directory import addressed
from streams.transport.lease import BEAT_S, Lease
from streams.transport.ledger import Entry, Ledger
from streams.transport.naps import Naps
from streams.transport.offsets import OffsetObserver, Offsets, committed_or_first, is_member, on_heartbeat
from streams.transport.standing import Standing

log = logging.getLogger(__name__)

LAST_COMMIT_S = 1.0  # at the end, also when the drain took the whole budget


@dataclass(frozen=True, slots=True)
class Profile:
    """How one agent reads. Clicks want little delay, media small batches, items one group a second."""

    max_records: int
    fetch_wait_ms: int
    fetch_min_bytes: int
    batches_in_flight: int
    left_ms: Callable[[Record, int], int] | None = (
        None  # how long from now_ms a record is to wait; None: never
    )


class StatefulAgent(Protocol):
    """The part of an agent that follows its partitions."""

    async def recover(self, partition: int) -> None:
        """Bring the partition's state into memory. Raises Retry when the broker does not answer."""
        ...

    def healing(self, partition: int) -> Emit | None:
        """After `recover`: changelog rows to write again."""
        ...

    def drop(self, partition: int) -> None:
        """Forget the partition's state: another worker owns it, or memory is ahead of what is durable."""
        ...


class ReaderObserver(OffsetObserver, Protocol):
    """What the metrics want to know of a reader; called a batch or less."""

    def batch_read(self, partition: int, records: int, size_bytes: int) -> None: ...
    def partitions(self, owned: int, open_: int) -> None: ...
    def partition_left(self, partition: int) -> None: ...
    def rebalanced(self, seconds: float) -> None: ...
    def paused(self, partitions: int) -> None: ...
    def napping(self, partitions: int) -> None: ...
    def rewound(self) -> None: ...
    def recovered(self, partition: int, seconds: float) -> None: ...


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
        self.commit_group: Commit[Any] | None = None  # set by the composition root before start
        self.address: str | None = (
            None  # where this worker answers queries; the group is told when it is joined
        )
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
        self._consumer: AIOKafkaConsumer | None = None
        self._ledgers: dict[TopicPartition, Ledger] = {}
        self._open: set[TopicPartition] = set()
        self._held: set[TopicPartition] = set()  # paused by flow control
        self._resume_at: dict[TopicPartition, int] = {}  # where to start over when records were not handed on
        self._seeks: dict[TopicPartition, int] = {}  # how often each was set to another offset
        self._naps = Naps(profile.left_ms)
        self._offsets = Offsets(group, kafka.request_timeout_s, observer)
        self._bytes = 0
        self._changed = asyncio.Event()  # a batch finished
        self._rewinding: set[TopicPartition] = set()
        self._rewind_again: set[TopicPartition] = set()
        self._turn = asyncio.Lock()  # one opens partitions or rewinds at a time
        self._stopping = False
        self._gave_up = False
        self._joined = False

    # -- what others ask

    @property
    def ready(self) -> bool:
        """Whether the group was joined and every owned partition's state is in memory."""
        return self._joined and len(self._open) == len(self._ledgers)

    @property
    def owned(self) -> list[int]:
        """Partitions that this worker owns now."""
        return sorted(tp.partition for tp in self._ledgers)

    @property
    def closed(self) -> list[int]:
        """Owned partitions whose state is not in memory yet."""
        return sorted(tp.partition for tp in self._ledgers if tp not in self._open)

    def standing(self, partition: int) -> Standing | None:
        """Where a partition stands; None for one that this worker does not own."""
        tp = self._tp(partition)
        ledger = self._ledgers.get(tp)
        return None if ledger is None else self._offsets.standing(tp, ledger, tp in self._open)

    def finish(self, batch: PartitionBatch) -> None:
        """The batch's effects are durable."""
        tp = self._tp(batch.partition)
        ledger = self._ledgers.get(tp)
        if ledger is None or not ledger.finish(batch.entry):
            return
        self._bytes -= batch.entry.cost_bytes
        self._offsets.finished(tp, batch.records[-1].timestamp)
        self._changed.set()
        self._release()

    def in_flight(self, partition: int) -> list[Entry]:
        """Batches of a partition that are not done, in the order of their offsets."""
        ledger = self._ledgers.get(self._tp(partition))
        return [] if ledger is None else ledger.unfinished

    def fail(self, error: BaseException, partition: int | None = None) -> None:
        """A group failed: drop what is not durable (of one partition, or of all) and start over. Anything but Retry
        stops the worker."""
        tps = set(self._ledgers) if partition is None else {self._tp(partition)}
        if not isinstance(error, Retry):
            self._fatal(error)
        elif self._stopping:
            self._gave_up = True  # nothing after it can be confirmed: no use to wait
            self._changed.set()
        elif tps and tps <= self._rewinding:
            self._rewind_again |= tps  # what was opened meanwhile is ahead of what is durable, too
        else:
            self._rewinding |= tps
            log.warning("%s: effects were not confirmed, starting over from what is: %s", self.group, error)
            self._close(tps)  # at once; an opening that is under way may have to be undone below
            self._spawn(self._start_over(tps))

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
            consumer = self._consumer = self._new_consumer()  # before start: partitions may come within it
            try:
                consumer.subscribe([prefixed(self._kafka.topic_prefix, self.topic)], listener=_Listener(self))
                await consumer.start()
            except (KafkaError, OSError) as error:
                self._consumer = None
                await close(consumer)
                check_not_refused(error, self._kafka)
                if not said:
                    log.warning("no broker at %s (%s); waiting for it", self._kafka.bootstrap, error)
                    said = True
                await self.sleep(backoff_s)
                backoff_s = min(backoff_s * 2, 5.0)
                continue
            break
        if self._consumer is None:
            return
        if said:
            log.info("broker found at %s", self._kafka.bootstrap)
        on_heartbeat(self._consumer, self._clock.monotonic_s, self._lease.confirm)
        self._spawn(self._commit_regularly())
        await self._read(self._consumer)

    def _new_consumer(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **client_options(self._kafka),
            group_id=self.group,
            group_instance_id=f"{self._kafka.instance_id}.{self.group}" if self._kafka.instance_id else None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=int(self._kafka.session_timeout_s * 1000),
            heartbeat_interval_ms=int(self._kafka.heartbeat_interval_s * 1000),
            rebalance_timeout_ms=int(self._kafka.rebalance_timeout_s * 1000),
            fetch_max_wait_ms=self._profile.fetch_wait_ms,
            fetch_min_bytes=self._profile.fetch_min_bytes,
            max_partition_fetch_bytes=self._reader.fetch_bytes,
            max_poll_records=self._profile.max_records,
            isolation_level="read_committed",  # upstream may write in transactions
            partition_assignment_strategy=[
                addressed(self.address) if self.address else RangePartitionAssignor
            ],
        )

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
            seeks = dict(self._seeks)
            for tp, records in found.items():
                if self._seeks.get(tp) == seeks.get(tp):  # else they come again, from where it was set to
                    await self._hand_on(tp, records)
            if found:
                self._hold()
                # a full buffer makes getmany return at once, for ever: let the others run
                await asyncio.sleep(0)

    async def _hand_on(self, tp: TopicPartition, records: list[Any]) -> None:
        ledger = self._ledgers.get(tp)
        if ledger is None:
            return  # it left: its next owner starts at the committed offset
        if tp not in self._open:
            if self.commit_group is not None and self.commit_group.commits_offsets:
                return  # it opens at what is committed by then, which may be further on
            self._resume_at[tp] = min(self._resume_at.get(tp, records[0].offset), records[0].offset)
            return
        due = self._naps.due(records, self._clock.wall_ms())
        if due < len(records):
            self._begin_nap(tp, records[due])
            records = records[:due]
        if not records:
            return
        cost = size_bytes(records)
        entry = ledger.append(records[0].offset, records[-1].offset + 1, cost)
        self._bytes += cost
        batch = PartitionBatch(self.topic, tp.partition, records, entry, self._clock.monotonic_s())
        self._observer.batch_read(tp.partition, len(records), cost)
        await self._channel.put(event_of(self.app, batch))

    # -- records that are not due

    def _begin_nap(self, tp: TopicPartition, first: Any) -> None:
        """Let go of what was fetched of a partition from a record that is not due, and pause until it is."""
        if self._consumer is None:  # stopped
            return
        self._pause([tp])
        try:
            self._consumer.seek(tp, first.offset)
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
                if tp in self._open - self._held:
                    self._resume([tp])
                return
            await self.sleep(left_s)

    def _end_nap(self, tp: TopicPartition) -> None:
        self._naps.end(tp)
        self._observer.napping(len(self._naps))

    # -- flow control

    def _hold(self) -> None:
        """Pause what has too much in flight. Several partitions share the bound on bytes."""
        full = self._bytes > self._reader.bytes_in_flight
        limit = self._profile.batches_in_flight
        hold = {tp for tp in self._open - self._held if full or self._ledgers[tp].in_flight >= limit}
        if hold:
            self._pause(hold)
            self._held |= hold
            self._observer.paused(len(self._held))

    def _release(self) -> None:
        if not self._held or self._bytes > self._reader.bytes_in_flight // 2:
            return
        low = self._profile.batches_in_flight // 2
        free = {tp for tp in self._held if tp in self._open and self._ledgers[tp].in_flight <= low}
        if free:
            self._held -= free
            self._resume(free)
            self._observer.paused(len(self._held))

    def _pause(self, tps: Iterable[TopicPartition]) -> None:
        if self._consumer is None:  # stopped
            return
        for tp in tps:
            try:
                self._consumer.pause(tp)
            except IllegalStateError:
                log.debug("%s left before it could be paused", tp)

    def _resume(self, tps: Iterable[TopicPartition]) -> None:
        if self._consumer is None:
            return
        for tp in tps:
            try:
                self._consumer.resume(tp)
            except IllegalStateError:
                log.debug("%s left before it could be resumed", tp)

    # -- partitions come and go

    async def revoke(self, revoked: Iterable[TopicPartition]) -> None:
        """Let work in flight finish within the budget, commit, and forget the partitions."""
        revoked = [tp for tp in revoked if tp in self._ledgers]
        if not revoked:
            return
        assert self.commit_group is not None
        started_s = self._clock.monotonic_s()
        await self._drain(self._drain_s)
        await self._commit()
        unfinished = sum(len(self._forget(tp)) for tp in revoked)
        for tp in revoked:
            await self.commit_group.close(tp.partition)
        if unfinished:
            log.warning(
                "%s: %d batches were not finished in time; their next owner repeats them",
                self.group,
                unfinished,
            )
            if not self._stopping and not self.commit_group.commits_offsets:
                # their effects are queued, and would land after the next owner's
                self._lease.lose()
                self.fail(Retry("partitions left with work unfinished"))
        self._observer.rebalanced(self._clock.monotonic_s() - started_s)
        self._observer.partitions(len(self._ledgers), len(self._open))

    def _forget(self, tp: TopicPartition) -> list[Any]:
        ledger = self._ledgers.pop(tp)
        self._bytes -= ledger.in_flight_bytes
        lost = ledger.rewind()
        for store in (self._open, self._held):
            store.discard(tp)
        self._resume_at.pop(tp, None)
        if self._naps:
            self._end_nap(tp)
        self._offsets.forget(tp)
        self._agent.drop(tp.partition)
        self._observer.partition_left(tp.partition)
        return lost

    async def assign(self, assigned: Iterable[TopicPartition]) -> None:
        """Take partitions over, closed; each opens when its state is back."""
        assigned = list(assigned)
        try:
            check_partitions(assigned, self._partitions)
        except EnvironmentProblem as problem:
            self._fatal(problem)
            return
        self._lease.confirm(self._clock.monotonic_s())
        for tp in assigned:
            if tp not in self._ledgers:
                self._ledgers[tp] = Ledger()
        self._joined = True
        self._pause(assigned)
        self._observer.partitions(len(self._ledgers), len(self._open))
        if assigned:
            log.info("%s: owns partitions %s", self.group, sorted(tp.partition for tp in assigned))
            self._spawn(self._open_all(assigned))

    async def _open_all(self, tps: list[TopicPartition]) -> None:
        for tp in sorted(tps):
            async with self._turn:
                if tp not in self._open:
                    await self._open_one(tp)

    async def _open_one(self, tp: TopicPartition) -> None:
        assert self.commit_group is not None
        backoff_s = 0.2
        ledger = self._ledgers.get(tp)
        while not self._stopping and ledger is not None and self._ledgers.get(tp) is ledger:
            started_s = self._clock.monotonic_s()
            try:
                if not await self._open_commits(tp):
                    return
                await self._agent.recover(tp.partition)
                overtaken = self._agent.healing(tp.partition)
                if overtaken is not None:
                    log.warning(
                        "%s: %d rows of partition %d had been followed by older ones of a worker that had lost it; "
                        "they are written again",
                        self.group,
                        len(overtaken.values),
                        tp.partition,
                    )
                    await self.commit_group.heal(overtaken)
                if self.commit_group.commits_offsets:  # a transaction of the one before may have moved it
                    self._resume_at[tp] = await self._committed_offset(tp)
            except (Retry, KafkaError, OSError) as error:
                log.warning("%s: cannot recover partition %d yet: %s", self.group, tp.partition, error)
                await self.sleep(backoff_s)
                backoff_s = min(backoff_s * 2, 5.0)
                continue
            if self._ledgers.get(tp) is not ledger:  # it left meanwhile
                if tp not in self._ledgers:
                    self._agent.drop(tp.partition)
                return
            consumer = self._consumer
            if consumer is None:  # stopped meanwhile
                return
            self._observer.recovered(tp.partition, self._clock.monotonic_s() - started_s)
            start = self._resume_at.pop(tp, None)
            if start is not None:
                consumer.seek(tp, start)
                self._seeks[tp] = self._seeks.get(tp, 0) + 1
            self._open.add(tp)
            if not self._stopping:
                self._resume([tp])
            self._observer.partitions(len(self._ledgers), len(self._open))
            return

    async def _open_commits(self, tp: TopicPartition) -> bool:
        """Let the partition's effects be written by this worker alone, where transactions can see to that. False
        when the group says that it has another owner: fencing that one would be wrong."""
        assert self.commit_group is not None
        if self.commit_group.commits_offsets and tp in self._rewinding:
            assert self._consumer is not None
            if not await is_member(self._consumer):
                log.info("%s: partition %d has left", self.group, tp.partition)
                return False
        await self.commit_group.open(tp.partition)
        return True

    async def _start_over(self, tps: set[TopicPartition]) -> None:
        """Drop all memory that may be ahead of what is durable and read again from the committed offsets."""
        async with self._turn:
            while not self._stopping:
                await self._rewind(tps)
                again = self._rewind_again & tps
                self._rewind_again -= tps
                if not again:
                    break
            self._rewinding -= tps

    async def _rewind(self, tps: set[TopicPartition]) -> None:
        assert self.commit_group is not None
        self._observer.rewound()
        ledgers = {tp: ledger for tp, ledger in self._ledgers.items() if tp in tps}
        self._close(ledgers)
        safe = {tp: ledger.committable for tp, ledger in ledgers.items()}
        for ledger in ledgers.values():
            self._bytes -= ledger.in_flight_bytes
            ledger.rewind(keep_committable=not self.commit_group.commits_offsets)
        self._changed.set()
        await self.commit_group.reset([tp.partition for tp in ledgers])
        self._rewind_again -= tps  # what failed until here is given up
        self._lease.renew()
        for tp, ledger in ledgers.items():
            if self._ledgers.get(tp) is not ledger:  # it left meanwhile, and perhaps came back
                continue
            self._agent.drop(tp.partition)
            start = safe[tp]
            self._resume_at[tp] = await self._committed_offset(tp) if start is None else start
            await self._open_one(tp)

    def _close(self, tps: Iterable[TopicPartition]) -> None:
        tps = list(tps)
        self._pause(tps)
        self._open.difference_update(tps)
        self._held.difference_update(tps)

    async def _committed_offset(self, tp: TopicPartition) -> int:
        """Raises Retry when the reader stops meanwhile."""
        backoff_s = 0.2
        while self._consumer is not None and not self.should_stop:
            try:
                return await committed_or_first(self._consumer, tp)
            except KafkaError as error:
                log.warning("%s: no answer about committed offsets yet: %s", self.group, error)
                await self.sleep(backoff_s)
                backoff_s = min(backoff_s * 2, 5.0)
        raise Retry("stopped while waiting for committed offsets")

    # -- offsets

    async def _commit_regularly(self) -> None:
        while not self.should_stop:
            await self.sleep(self._reader.commit_interval_s)
            await self._commit()
            if self._consumer is not None:
                self._offsets.measure_lag(self._consumer, self._ledgers, self._clock.wall_ms())

    async def _commit(self, within_s: float = math.inf) -> None:
        assert self.commit_group is not None
        if self._consumer is not None and not self.commit_group.commits_offsets:
            await self._offsets.commit(self._consumer, self._ledgers, within_s)

    # -- the end

    async def _drain(self, budget_s: float) -> None:
        deadline_s = self._clock.monotonic_s() + budget_s
        while any(ledger.in_flight for ledger in self._ledgers.values()) and not self._gave_up:
            left_s = deadline_s - self._clock.monotonic_s()
            if left_s <= 0:
                return
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), left_s)
            except asyncio.TimeoutError:
                return

    async def finish_up(self, budget_s: float) -> None:
        """Read nothing more, let work in flight finish within the budget, commit. Called once, before stop."""
        self._stopping = True
        if self._consumer is None:
            return
        started_s = self._clock.monotonic_s()
        self._pause(self._open)
        await self._drain(budget_s)
        left = sum(ledger.in_flight for ledger in self._ledgers.values())
        if left:
            log.warning("%s: stopping with %d batches unfinished; they will be repeated", self.group, left)
        spent_s = self._clock.monotonic_s() - started_s
        await self._commit(max(LAST_COMMIT_S, budget_s - spent_s))

    async def on_stop(self) -> None:
        """Leave the group and close the connections, bounded."""
        self._stopping = True
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await close(consumer)

    def _tp(self, partition: int) -> TopicPartition:
        return TopicPartition(prefixed(self._kafka.topic_prefix, self.topic), partition)


def check_partitions(assigned: Iterable[TopicPartition], declared: int) -> None:
    """Raises EnvironmentProblem when a topic has more partitions than it was declared with."""
    for tp in assigned:
        if tp.partition >= declared:
            raise EnvironmentProblem(
                f"{tp.topic} has grown beyond the {declared} partitions of topics.partitions: keys move away from "
                "their state, and the topics beside it have no such partition. Start with a new kafka.topic_prefix "
                "and replay"
            )


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """aiokafka's callbacks, on the app's own loop."""

    def __init__(self, reader: BatchReader) -> None:
        self._reader = reader

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        await self._reader.revoke(revoked)

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        await self._reader.assign(assigned)
