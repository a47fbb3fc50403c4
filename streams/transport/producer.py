"""Whole batches of records to the broker, and a wait that really ends when they are confirmed.

Built on aiokafka's create_batch/send_batch: one future a batch instead of one a record (545k against 58-100k
records/s, measured). Order within a topic partition is the order of `send` calls.

Idempotent where the broker can: then a batch that is sent again is written once, and none is given up while later
ones of its partition go on (a gap that fences by offset would take for good). The first failure is the end of the
connection: `restart` forgets all that is queued, so that nothing later can pass what failed. Nothing is sent
without the lease (see `streams.transport.lease`).
"""

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Awaitable, Iterable, Iterator
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    IncompatibleBrokerVersion,
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    RequestTimedOutError,
    UnknownError,
    UnsupportedVersionError,
)
from aiokafka.protocol.produce import ProduceRequest

from streams.effects import Emit
from streams.errors import EnvironmentProblem, Fatal, Retry
from streams.sections.kafka import Kafka
from streams.topology.topics import prefixed
from streams.transport.client import client_options, close, refusal
from streams.transport.lease import Lease

log = logging.getLogger(__name__)

GIVEN_UP = "given up: an earlier batch failed or its partition was lost"
MAX_BATCH_BYTES = 900_000  # below the brokers' default limit of 1 MiB a batch; a larger record goes alone


class BatchProducer:
    """Sends `Emit` effects. `send` returns when a batch is queued; `confirmed` when brokers have it.

    With a `lease`, produce requests leave only while it is held.
    """

    def __init__(self, kafka: Kafka, lease: Lease | None = None) -> None:
        self._kafka = kafka
        self._lease = lease
        self._idempotent: bool | None = None  # not known before the first start
        self._producer: AIOKafkaProducer | None = None
        # A partition takes one waiting batch; without a fair lock two senders could swap places.
        self._turns: defaultdict[tuple[str, int], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def start(self) -> None:
        """Connect. Raises aiokafka's KafkaConnectionError while there is no broker."""
        if self._idempotent is not False:
            try:
                with _without_a_word():
                    self._producer = await self._started(enable_idempotence=True)
                self._idempotent = True
                return
            except (UnknownError, UnsupportedVersionError, IncompatibleBrokerVersion) as error:
                log.debug(
                    "the broker knows no idempotent producers (%r): a batch may be written twice", error
                )
                self._idempotent = False
        self._producer = await self._started(enable_idempotence=False)

    async def _started(self, **options: Any) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **client_options(self._kafka),
            acks="all",
            linger_ms=0,
            max_batch_size=min(MAX_BATCH_BYTES, self._kafka.max_message_bytes),
            **options,
        )
        try:
            await producer.start()
        except BaseException:
            await close(producer)
            raise
        told_of_its_end(producer)
        if self._lease is not None:
            _only_with(self._lease, producer.client)
        return producer

    async def restart(self) -> None:
        """Give up all that is queued or on its way (its awaitables fail) and connect anew.

        Raises KafkaError or OSError while there is no broker; then call it again.
        """
        old, self._producer = self._producer, None
        self._turns.clear()
        if old is not None:
            await abandon(old)
        await self.start()

    async def send(self, emit: Emit, timestamp_ms: int) -> list[Awaitable[Any]]:
        """Queue the records; one awaitable a broker batch. Raises Retry when the queue does not move."""
        if not emit.values:
            return []
        producer = self._producer  # before the wait: what is queued for this one must not go to the next
        if producer is None:
            raise Retry("not connected to the broker")
        async with self._turns[emit.topic, emit.partition]:
            return await send_all(producer, self._kafka, emit, timestamp_ms)

    @staticmethod
    async def confirmed(pending: Iterable[Awaitable[Any]]) -> None:
        """Return when every batch is acknowledged by all in-sync replicas. Raises Retry if one was not,
        Fatal or EnvironmentProblem for one that never can be."""
        for result in await _failures(pending):
            if isinstance(result, MessageSizeTooLargeError):
                # Repeating it would repeat for ever; leaving it out would lose it.
                raise Fatal(
                    "the broker refuses a record as too large: raise the topic's max.message.bytes, or lower "
                    "kafka.max_message_bytes"
                ) from result
            if isinstance(result, InvalidTimestampError):
                raise EnvironmentProblem(
                    "the broker refuses this machine's time of day as too far from its own: set the clock, or give the "
                    "topics message.timestamp.type=LogAppendTime (`headrace topics plan` names them)"
                ) from result
            if (words := refusal(result)) is not None:
                raise EnvironmentProblem(f"the broker refuses what this worker writes: {words}") from result
            raise Retry(f"not confirmed by the broker: {result!r}") from result

    async def stop(self, timeout_s: float) -> None:
        """Flush what is queued within the time, then close for good."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        await close(producer, timeout_s)  # with the broker gone, the queue is left to whoever repeats it


async def _failures(pending: Iterable[Awaitable[Any]]) -> list[BaseException]:
    """What the failed ones failed with, once all have ended. One answer of a broker ends many, so that the first is
    waited for and the others are found done: `gather` would be called back for each."""
    futures = [asyncio.ensure_future(one) for one in pending]
    try:
        for future in futures:
            if not future.done():
                await asyncio.wait([future])
    except asyncio.CancelledError:
        for future in futures:
            future.cancel()
        raise
    ended = [asyncio.CancelledError() if one.cancelled() else one.exception() for one in futures]
    return [failure for failure in ended if failure is not None]


def ignore_result(future: Awaitable[Any]) -> None:
    """Nobody may be left to ask for it."""
    if isinstance(future, asyncio.Future):
        future.add_done_callback(lambda f: f.cancelled() or f.exception())


async def send_all(
    producer: AIOKafkaProducer, kafka: Kafka, emit: Emit, timestamp_ms: int
) -> list[Awaitable[Any]]:
    """Queue the records of an effect; one awaitable a broker batch. Raises Retry when the queue does not move."""
    topic = prefixed(kafka.topic_prefix, emit.topic)
    pending: list[Awaitable[Any]] = []
    if not emit.values:
        return pending
    for builder in _built(producer, emit, timestamp_ms if emit.at_ms is None else emit.at_ms):
        try:
            pending.append(
                _queued(producer, builder, topic, emit.partition)
                or await producer.send_batch(builder, topic, partition=emit.partition)
            )
        except (KafkaError, asyncio.TimeoutError) as error:
            for future in pending:
                ignore_result(future)
            raise Retry(f"cannot send to {topic}[{emit.partition}]: {error!r}") from error
    return pending


def _queued(
    producer: AIOKafkaProducer, builder: Any, topic: str, partition: int
) -> "asyncio.Future[Any] | None":
    """What `send_batch` does where there is nothing to wait for, with one future a batch instead of three; None where
    there is (reached into: the version is pinned)."""
    queue, tp = producer._message_accumulator, TopicPartition(topic, partition)
    known = producer.client.cluster.partitions_for_topic(topic)
    manager = producer._txn_manager
    if (
        queue._batches.get(tp)
        or queue._closed
        or queue._exception is not None
        or not known
        or partition not in known
    ):
        return None
    if manager is not None and manager.transactional_id is not None:
        return None
    future: asyncio.Future[Any] = queue._append_batch(builder, tp).future
    return future


def _built(producer: AIOKafkaProducer, emit: Emit, timestamp_ms: int) -> Iterable[Any]:
    """The records of an effect as broker batches."""
    builder = producer.create_batch()
    append = builder.append
    headers = emit.headers
    for i, (key, value) in enumerate(zip(emit.keys, emit.values, strict=True)):
        extra = headers[i] if headers is not None else []
        if append(timestamp=timestamp_ms, key=key, value=value, headers=extra) is None:
            yield builder
            builder = producer.create_batch()
            append = builder.append
            append(timestamp=timestamp_ms, key=key, value=value, headers=extra)
    yield builder


def told_of_its_end(producer: AIOKafkaProducer) -> None:
    """Let a producer that is fenced, or whose sending broke, end without a stack in the log (reached into: the version
    is pinned). aiokafka 0.14 tells it also by a future that only a commit asks for, and trips over that future where
    there are no transactions."""
    manager = producer._txn_manager
    if manager is None:
        return
    if manager._transaction_waiter is None:
        manager._transaction_waiter = asyncio.get_running_loop().create_future()
    fatal_error = manager.fatal_error

    def told(error: BaseException) -> None:
        fatal_error(error)
        ignore_result(manager._transaction_waiter)

    manager.fatal_error = told


async def abandon(producer: AIOKafkaProducer, within_s: float = 2.0) -> None:
    """Close without a flush; whatever was queued or on its way fails with KafkaError.

    aiokafka 0.14 can only flush, so this reaches into it (the version is pinned): the queue is emptied and the
    sending task cancelled before anything is awaited, so nothing leaves after this call. Who waited for room in the
    queue, and has just been given it, is refused: a batch that nobody sends would be waited for without end.
    """
    sender, queue = producer._sender, producer._message_accumulator
    task = sender.sender_task
    if task is not None:
        ignore_result(task)
        task.cancel()
    gone = KafkaError(GIVEN_UP)
    queue.fail_all(gone)
    queue._batches.clear()
    queue._append_batch = _refused
    queue._closed = producer._closed = True
    await asyncio.wait([asyncio.ensure_future(producer.client.close())], timeout=within_s)
    if task is not None:
        await asyncio.wait([task], timeout=within_s)


def _refused(*_: Any) -> None:
    raise KafkaError(GIVEN_UP)


@contextlib.contextmanager
def _without_a_word() -> Iterator[None]:
    """A broker without idempotent producers is no error, but aiokafka logs it as one."""
    sender = logging.getLogger("aiokafka.producer.sender")
    level = sender.level
    sender.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        sender.setLevel(level)


def _only_with(lease: Lease, client: Any) -> None:
    """Let produce requests of a client through only while the lease is held; others wait and are tried again."""
    send = client.send

    async def leased(node_id: int, request: Any, **options: Any) -> Any:
        if isinstance(request, ProduceRequest) and not lease.held:
            raise RequestTimedOutError("this worker stood still: its partitions may have a new owner")
        return await send(node_id, request, **options)

    client.send = leased
