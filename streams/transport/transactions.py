"""Exactly-once: a group's outputs, transitions, changelog rows and offsets in one Kafka transaction a partition.

The transactional id names the input partition, so its next owner fences whoever had it before (aiokafka's offset
commits carry no generation of the group, so nothing else would). Transactions of one partition follow each other;
those of several partitions overlap. Few and large ones are cheap: a partition begins at most one in `interval_s`
and takes all that waits.

    begin -> outputs, changelog and offsets sent -> all confirmed -> commit -> batches done

Whatever fails, the producer is given up with its open transaction, the partition's memory is dropped, and the next
`open` aborts what was left of it. aiokafka 0.14 commits a transaction of which a batch was refused: hence
"all confirmed" before the commit.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    IllegalOperation,
    IncompatibleBrokerVersion,
    KafkaError,
    UnknownError,
    UnsupportedVersionError,
)

from streams.clock import Clock
from streams.effects import Effects, Emit
from streams.errors import EnvironmentProblem, NoBroker, Retry
from streams.sections.kafka import Kafka
from streams.topology.topics import prefixed
from streams.transport.batch import PartitionBatch
from streams.transport.client import client_options, close
from streams.transport.durable import Commit, CommitObserver, Submission, waited
from streams.transport.ledger import Entry
from streams.transport.producer import (
    MAX_BATCH_BYTES,
    BatchProducer,
    abandon,
    ignore_result,
    send_all,
    told_of_its_end,
)

log = logging.getLogger(__name__)

W = TypeVar("W")

TIMEOUT_S = 30.0  # after so long the broker aborts a transaction that nobody ends
RETRY_BACKOFF_MS = 5  # the coordinator is still writing the markers of the transaction before


@dataclass(slots=True)
class _Partition:
    """One input partition's producer and what waits for its next transaction."""

    producer: AIOKafkaProducer
    waiting: deque[Submission[Any]] = field(default_factory=deque)
    task: "asyncio.Task[None] | None" = None
    next_s: float = 0.0


class TransactionalCommit(Commit[W]):
    """One agent's transactions. `decide` is called on the event loop with one partition's batches, in order."""

    commits_offsets = True

    def __init__(
        self,
        *,
        decide: Callable[[Sequence[Submission[W]]], Effects],
        finish: Callable[[PartitionBatch], None],
        failed: Callable[[BaseException, int | None], None],
        in_flight: Callable[[int], Sequence[Entry]],
        kafka: Kafka,
        group: str,
        topic: str,
        clock: Clock,
        observer: CommitObserver,
        group_records: int,
        interval_s: float,
    ) -> None:
        self._decide = decide
        self._finish = finish
        self._failed = failed
        self._in_flight = in_flight
        self._kafka = kafka
        self._group = group
        self._topic = prefixed(kafka.topic_prefix, topic)
        self._clock = clock
        self._observer = observer
        self._group_records = group_records
        self._interval_s = interval_s
        self._partitions: dict[int, _Partition] = {}
        self._wake = asyncio.Event()
        self._settling = False

    def submit(self, batch: PartitionBatch, work: W) -> None:
        part = self._partitions.get(batch.partition)
        if part is not None and not batch.lost:
            part.waiting.append(Submission(batch, work))
            self._wake.set()

    def fail(self, error: BaseException | None) -> None:
        self._failed(error or RuntimeError("an agent stopped without a reason"), None)

    async def run(self) -> None:
        while not self._settling:
            await self._wake.wait()
            self._wake.clear()
            for partition, part in self._partitions.items():
                if part.waiting and part.task is None:
                    part.task = asyncio.create_task(self._transact(partition, part))

    async def open(self, partition: int) -> None:
        await self.close(partition)
        starting = _started(self._kafka, f"{self._group}-{partition}")
        try:
            producer = await asyncio.wait_for(starting, self._kafka.request_timeout_s)
        except asyncio.TimeoutError as error:
            raise Retry("no answer from the coordinator of transactions") from error
        self._partitions[partition] = _Partition(producer)

    async def close(self, partition: int) -> None:
        part = self._partitions.pop(partition, None)
        if part is None:
            return
        if part.task is None:
            await close(part.producer)  # nothing is open or queued
            return
        part.task.cancel()
        await asyncio.wait([part.task], timeout=1.0)
        await abandon(part.producer)

    async def heal(self, rows: Emit) -> None:
        """Rows that a worker left overtaken before transactions were turned on."""
        producer = self._partitions[rows.partition].producer
        await _begun(producer)
        pending = await send_all(producer, self._kafka, rows, self._clock.wall_ms())
        await BatchProducer.confirmed(pending)
        await producer.commit_transaction()

    async def reset(self, partitions: Sequence[int]) -> None:
        await asyncio.gather(*(self.close(partition) for partition in partitions))

    async def settle(self, within_s: float) -> None:
        self._settling = True
        tasks = [part.task for part in self._partitions.values() if part.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=within_s)

    async def cancel(self) -> None:
        await self.reset(list(self._partitions))

    async def _transact(self, partition: int, part: _Partition) -> None:
        """One transaction of what waits; then the next may begin."""
        try:
            await asyncio.sleep(part.next_s - self._clock.monotonic_s())
            part.next_s = self._clock.monotonic_s() + self._interval_s
            group = self._next_group(partition, part)
            if group:
                await self._perform(partition, part, group)
        except (KafkaError, OSError, Retry, IllegalOperation) as error:
            part.waiting.clear()
            self._observer.group_failed(1)
            self._failed(Retry(f"transaction of {self._topic}[{partition}]: {error!r}"), partition)
            return  # the task stays, so that nothing begins before `open`
        except Exception as error:  # a bug of the agent: the worker must end with it
            self._failed(error, partition)
            return
        part.task = None
        if part.waiting:
            self._wake.set()

    def _next_group(self, partition: int, part: _Partition) -> list[Submission[W]]:
        """What waits and is next in the log: offsets move with the effects, so no batch may be passed over."""
        if self._settling:
            return []
        waiting = {id(s.batch.entry): s for s in part.waiting if not s.batch.lost}
        group: list[Submission[W]] = []
        records = 0
        for entry in self._in_flight(partition):
            submission = waiting.pop(id(entry), None)
            if submission is None or records >= self._group_records:
                break
            group.append(submission)
            records += len(submission.batch.records)
        taken = {id(s) for s in group}
        part.waiting = deque(s for s in part.waiting if id(s) not in taken and not s.batch.lost)
        return group

    async def _perform(self, partition: int, part: _Partition, group: Sequence[Submission[W]]) -> None:
        started_s = self._clock.monotonic_s()
        effects = self._decide(group)
        records = sum(len(s.batch.records) for s in group)
        decided_s = self._clock.monotonic_s()
        self._observer.group_decided(len(group), records, decided_s - started_s)
        producer, now_ms = part.producer, self._clock.wall_ms()
        await _begun(producer)
        pending: list[Awaitable[Any]] = []
        for emit in (*effects.outputs, *effects.changelog):
            pending += await send_all(producer, self._kafka, emit, now_ms)
        offsets = {TopicPartition(self._topic, partition): group[-1].batch.entry.next}
        sending = asyncio.ensure_future(producer.send_offsets_to_transaction(offsets, self._group))
        for future in (*pending, sending):
            ignore_result(future)
        try:
            await BatchProducer.confirmed([*pending, sending])
        finally:
            sending.cancel()
        await producer.commit_transaction()
        for submission in group:
            self._finish(submission.batch)
        now_s = self._clock.monotonic_s()
        self._observer.group_done(records, now_s - decided_s, *waited(group, now_s))


async def require_transactions(kafka: Kafka, group: str) -> None:
    """Raises EnvironmentProblem when the broker has no working transactions; KafkaError or NoBroker while it does not
    answer, which says nothing about them."""
    try:
        producer = await asyncio.wait_for(_started(kafka, f"{group}-probe"), kafka.request_timeout_s)
    except asyncio.TimeoutError as error:
        raise NoBroker(f"no answer from a coordinator of transactions at {kafka.bootstrap}") from error
    except (UnknownError, UnsupportedVersionError, IncompatibleBrokerVersion) as error:
        raise EnvironmentProblem(
            f"the broker at {kafka.bootstrap} has no working transactions, which worker.delivery = "
            f'"exactly_once" needs: use Apache Kafka, or worker.delivery = "at_least_once" ({error!r})'
        ) from error
    await close(producer)


async def _begun(producer: AIOKafkaProducer) -> None:
    """Begin a transaction."""
    await producer.begin_transaction()
    ignore_result(producer._txn_manager._transaction_waiter)


async def _started(kafka: Kafka, transactional_id: str) -> AIOKafkaProducer:
    """A producer that has fenced whoever had the id before and aborted what it left open."""
    producer = AIOKafkaProducer(
        **client_options(kafka) | {"retry_backoff_ms": RETRY_BACKOFF_MS},
        acks="all",
        linger_ms=0,
        max_batch_size=min(MAX_BATCH_BYTES, kafka.max_message_bytes),
        transactional_id=transactional_id,
        transaction_timeout_ms=int(TIMEOUT_S * 1000),
    )
    told_of_its_end(producer)
    try:
        await producer.start()
    except BaseException:
        await close(producer)
        raise
    return producer
