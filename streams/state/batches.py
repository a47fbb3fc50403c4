"""A partition's record batches as the broker sends them, and their keys and values as lists.

aiokafka's consumer makes an object with eleven fields of every record, which costs more than decoding a reader's row.
Here its client fetches (it finds leaders, authenticates, reconnects) and its compiled codec takes batches apart (all
magics, gzip, snappy, lz4, zstd); between them stands nothing but what a consumer must not forget: checksums, aborted
transactions, control batches, records before the offset asked for, a last batch cut off by the fetch's size.

Written for aiokafka 0.14: `AIOKafkaClient`, `FetchRequest`, `OffsetRequest`, `MemoryRecords`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    CorruptRecordException,
    KafkaError,
    OffsetOutOfRangeError,
    RequestTimedOutError,
    StaleMetadata,
    for_code,
)
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from google_crc32c import value as crc32c

from streams.errors import Retry
from streams.sections.kafka import Kafka
from streams.transport.client import client_options
from streams.transport.patience import be_patient

log = logging.getLogger(__name__)

T = TypeVar("T")

READ_COMMITTED = 1
EARLIEST, LATEST = -2, -1
FETCH_BYTES = 4 << 20  # 16 MiB were no faster on either broker
MOST_FETCH_BYTES = 128 << 20  # for a batch that is larger than a fetch
FETCH_WAIT_MS = 250
QUIET_FETCHES = 20  # fruitless ones, each with its wait: 5 s
CHUNK_RECORDS = (
    1000  # handed on at once: a few ms of the loop, and 1 to 2 MB, which stay in the processor's cache
)


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer to one fetch."""

    start: int  # the offset asked for
    next_offset: int  # after the last whole batch; `start` when there is none
    end: int  # the partition's high watermark
    data: bytes
    aborted: tuple[tuple[int, int], ...] = ()  # (producer id, first offset) of aborted transactions


class BatchFetcher:
    """Reads partitions of one topic, read_committed. One client, no group. Methods raise KafkaError or OSError."""

    def __init__(self, kafka: Kafka, topic: str) -> None:
        self._client: Any = AIOKafkaClient(**client_options(kafka))
        be_patient(self._client)
        self._topic = topic

    async def start(self) -> None:
        await self._client.bootstrap()
        await self._client.set_topics([self._topic])

    async def stop(self) -> None:
        await self._client.close()

    async def bounds(self, partition: int) -> tuple[int, int]:
        """The first offset that is there, and the one after the last that a reader of committed records may see."""
        return (await self._lookup(partition, EARLIEST))[0], (await self._lookup(partition, LATEST))[0]

    async def holds_younger(self, partition: int, timestamp_ms: int, before: int) -> bool:
        """Whether a batch that begins before that offset has a record younger than that timestamp."""
        offset, found_ms = await self._lookup(partition, timestamp_ms + 1)
        if offset < 0 or found_ms < 0 or offset >= before:
            return False
        # Tansu looks up by its own time of arrival, some ms after the records': the batch itself tells
        data = (await self.fetch(partition, offset)).data
        return newest_ms(data[: 12 + int.from_bytes(data[8:12], "big")]) > timestamp_ms

    async def end_seen_from(self, partition: int, offset: int) -> int | None:
        """The high watermark, as a fetch at this offset says; None when the offset is beyond it."""
        try:
            end = (await self._patiently(lambda: self._fetch_once(partition, offset, 1))).end
        except OffsetOutOfRangeError:
            return None
        return end if offset <= end else None

    async def cluster(self) -> str:
        """The cluster's id; empty where a broker does not tell."""
        request = MetadataRequest([self._topic])
        answer = await self._patiently(lambda: self._client.send(self._client.get_random_node(), request))
        return str(getattr(answer, "cluster_id", None) or "")

    async def fetch(self, partition: int, offset: int) -> Fetched:
        """Batches from this offset on, at least one; transient errors are waited for.

        Raises Retry when none comes for some seconds, and when the offset is not there any more.
        """
        size_bytes = FETCH_BYTES
        for _ in range(QUIET_FETCHES):
            try:
                found = await self._patiently(partial(self._fetch_once, partition, offset, size_bytes))
            except OffsetOutOfRangeError as error:
                raise Retry(f"{self._topic}[{partition}] has lost offset {offset} meanwhile") from error
            if found.next_offset > offset:
                return found
            if found.data and size_bytes < MOST_FETCH_BYTES:
                size_bytes *= 2  # not one whole batch: it is larger
            else:
                await asyncio.sleep(FETCH_WAIT_MS / 1000)
        raise Retry(f"{self._topic}[{partition}] stopped answering at offset {offset}")

    async def _fetch_once(self, partition: int, offset: int, size_bytes: int) -> Fetched:
        wanted = [(self._topic, [(partition, offset, size_bytes)])]
        request = FetchRequest(FETCH_WAIT_MS, 1, size_bytes, READ_COMMITTED, wanted)
        answer = await self._client.send(self._leader(partition), request)
        # v4 on: high watermark, ..., aborted transactions, [v11: preferred replica,] records
        end, *rest = _of_one(answer)
        aborted = rest[2] if answer.API_VERSION >= 11 else rest[-2]
        data: bytes = rest[-1] or b""
        return Fetched(offset, next_offset(data, offset), end, data, tuple(tuple(a) for a in aborted or ()))

    async def _lookup(self, partition: int, at: int) -> tuple[int, int]:
        """Offset and timestamp, by a timestamp or one of the special ones; -1 for none."""
        request = OffsetRequest(-1, READ_COMMITTED, [(self._topic, [(partition, at)])])
        found_ms, offset, *_ = await self._patiently(
            lambda: self._ask(self._leader(partition), request),
        )
        return int(offset), int(found_ms)

    async def _ask(self, node: int, request: Any) -> Sequence[Any]:
        return _of_one(await self._client.send(node, request))

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask again while brokers have transient errors. Raises Retry after some seconds of them."""
        last: KafkaError | None = None
        for _ in range(QUIET_FETCHES):
            try:
                return await ask()
            except OffsetOutOfRangeError:
                raise
            except KafkaError as error:
                if not error.retriable:
                    raise
                last = error
                self._client.force_metadata_update()
                await asyncio.sleep(FETCH_WAIT_MS / 1000)
        raise Retry(f"{self._topic}: no answer ({last!r})")

    def _leader(self, partition: int) -> int:
        node = self._client.cluster.leader_for_partition(TopicPartition(self._topic, partition))
        if node is None or node == -1:
            raise StaleMetadata(f"{self._topic}[{partition}] has no leader")
        return int(node)


def _of_one(answer: Any) -> Sequence[Any]:
    """What an answer says of the one partition asked for, after its error code. Raises its KafkaError."""
    if not answer.topics or not answer.topics[0][1]:
        raise RequestTimedOutError(
            "an answer without the partition"
        )  # Tansu, when it has nothing to say in time
    code: int
    rest: list[Any]
    _, code, *rest = answer.topics[0][1][0]
    if code:
        raise for_code(code)()
    return rest


def heads(data: bytes, size_bytes: int = 27) -> Iterator[int]:
    """Where whole batches begin in `data`, of which at least a head of that size is there."""
    at = 0
    while at + size_bytes <= len(data):
        stop = at + 12 + int.from_bytes(data[at + 8 : at + 12], "big")
        if stop > len(data) or stop <= at + 12:
            return
        yield at
        at = stop


def next_offset(data: bytes, start: int) -> int:
    """The offset after the last whole batch in `data`, by the batches' heads alone; `start` when there is none."""
    found = start
    for at in heads(data):
        found = int.from_bytes(data[at : at + 8], "big", signed=True) + 1
        if data[at + 16] >= 2:  # magic: the head holds the first offset, and how far it is to the last
            found += int.from_bytes(data[at + 23 : at + 27], "big")
    return max(found, start)


def newest_ms(data: bytes) -> int:
    """The newest timestamp in whole batches, by their heads; 0 where they are of magic 0 or 1."""
    found = 0
    for at in heads(data, 43):
        if data[at + 16] >= 2:
            found = max(found, int.from_bytes(data[at + 35 : at + 43], "big", signed=True))
    return found


def records(fetched: Fetched) -> Iterator[tuple[list[bytes], list[bytes | None], int]]:
    """Keys (b"" for none), values (None: a tombstone) and the offset after them, in chunks, in order.

    Committed records only. Raises CorruptRecordException on a checksum that does not fit.
    """
    keys: list[bytes] = []
    values: list[bytes | None] = []
    data, at = fetched.data, 0
    batches, aborted = MemoryRecords(data), _Aborted(fetched.aborted)
    while batches.has_next():
        batch = batches.next_batch()
        stop = at + 12 + int.from_bytes(data[at + 8 : at + 12], "big")
        if not _whole(data, at, stop, batch):
            raise CorruptRecordException(f"a checksum does not fit, at offset {batch.base_offset}")
        at = stop
        following = batch.next_offset
        if not aborted.skips(batch):
            found = list(batch)
            if found and found[0].offset < fetched.start:  # a batch that began before
                found = [record for record in found if record.offset >= fetched.start]
            keys += [record.key or b"" for record in found]
            values += [record.value for record in found]
        if len(keys) >= CHUNK_RECORDS:
            yield keys, values, following
            keys, values = [], []
    if keys:
        yield keys, values, fetched.next_offset


def _whole(data: bytes, at: int, stop: int, batch: Any) -> bool:
    """Whether the checksum of the batch at data[at:stop] fits."""
    if data[at + 16] < 2:  # magic 0 and 1 have a checksum a message, of another kind
        return bool(batch.validate_crc())
    # by the processor's instruction: the client's own table takes five times as long
    return int(crc32c(data[at + 21 : stop])) == int.from_bytes(data[at + 17 : at + 21], "big")


class _Aborted:
    """Tells batches of aborted transactions and control batches, batch after batch of one fetch."""

    def __init__(self, transactions: Sequence[tuple[int, int]]) -> None:
        self._coming = sorted(transactions, key=lambda transaction: transaction[1], reverse=True)
        self._producers: set[int] = set()

    def skips(self, batch: Any) -> bool:
        """Whether the batch holds no committed records."""
        producer = batch.producer_id
        if producer is None:  # magic 0 and 1 know no transactions
            return False
        while self._coming and self._coming[-1][1] <= batch.base_offset:
            self._producers.add(self._coming.pop()[0])
        if batch.is_control_batch:
            if ControlRecord.parse(next(batch).key) == ABORT_MARKER:
                self._producers.discard(producer)
            return True
        return bool(batch.is_transactional and producer in self._producers)
