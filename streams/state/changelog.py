"""Reading compacted topics in bulk: a partition to its end (recovery), or a whole topic for ever (broadcast tables).

Without a group; keys and values are handed on as lists, a chunk at a time, for columnar decoding.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams.errors import Retry
from streams.sections.kafka import Kafka
from streams.state.batches import BatchFetcher, records
from streams.state.snapshotfile import Snapshot
from streams.state.snapshots import Snapshots
from streams.topology.topics import prefixed
from streams.transport.batch import Record
from streams.transport.client import client_options, close
from streams.transport.patience import be_patient

log = logging.getLogger(__name__)

Apply = Callable[[Sequence[bytes], Sequence[bytes | None]], None]
Tell = Callable[[int, int], None]  # offsets passed, of how many
POLL_MS = 500


class ChangelogReader:
    """Reads partitions of one topic from their start, or a snapshot's end, to their end. One connection, kept.

    Nobody else may write to the partition meanwhile, or the end moves on: its owner reads it before it writes. With
    `snapshots`, the files of the partitions read and not left since are brought up to date every `interval_s`.
    """

    def __init__(
        self, kafka: Kafka, topic: str, snapshots: Snapshots | None = None, interval_s: float = 300.0
    ) -> None:
        self._kafka = kafka
        self._topic = prefixed(kafka.topic_prefix, topic)
        self._fetcher: BatchFetcher | None = None
        self._turn = asyncio.Lock()
        self._snapshots = snapshots
        self._interval_s = interval_s
        self._held: set[int] = set()  # read, and not left
        self._keeping: asyncio.Task[None] | None = None

    async def replay(self, partition: int, apply: Apply, tell: Tell | None = None) -> int:
        """Apply every record of the partition in order; returns how many. `tell` hears how far it is.

        Raises Retry, KafkaError or OSError.
        """
        async with self._turn:
            fetcher = await self._connected()
            start, end = await fetcher.bounds(partition)
            position, rows, tell = start, 0, tell or _nobody
            snapshot = await self._snapshots.find(fetcher, partition, start) if self._snapshots else None
            if snapshot is not None:
                with snapshot:
                    position = snapshot.head.offset
                    rows = await _load(snapshot, apply, _part(tell, 0, position - start, end - start))
            if position >= end:  # Tansu may say so and be wrong, see below
                end = max(end, await fetcher.end_seen_from(partition, position) or end)
            if position < end:
                passed = position - start
                rows += await self._read(
                    fetcher,
                    partition,
                    position,
                    end,
                    apply,
                    lambda done, of: tell(passed + done, passed + of),
                )
            self._hold(partition)
            return rows

    async def _read(
        self, fetcher: BatchFetcher, partition: int, start: int, end: int, apply: Apply, tell: Tell
    ) -> int:
        rows, position = 0, start
        ahead = asyncio.create_task(fetcher.fetch(partition, position))
        try:
            while position < end:
                fetched = await ahead
                # Tansu 0.6 answers ListOffsets with the last batch's first offset; a fetch tells the truth.
                end = max(end, fetched.end)
                if fetched.next_offset < end:  # on its way while this one is decoded
                    ahead = asyncio.create_task(fetcher.fetch(partition, fetched.next_offset))
                    await asyncio.sleep(0)
                for keys, values, following in records(fetched):
                    apply(keys, values)
                    rows += len(keys)
                    tell(following - start, end - start)
                    await asyncio.sleep(0)  # heartbeats of the group
                position = fetched.next_offset
            return rows
        finally:
            ahead.cancel()
            await asyncio.wait([ahead])
            _ = ahead.cancelled() or ahead.exception()  # seen: what ended the reading is raised already

    async def _connected(self) -> BatchFetcher:
        if self._fetcher is None:
            fetcher = BatchFetcher(self._kafka, self._topic)
            try:
                await fetcher.start()
            except BaseException:
                await close(fetcher)
                raise
            self._fetcher = fetcher
        return self._fetcher

    def _hold(self, partition: int) -> None:
        self._held.add(partition)
        if self._snapshots is not None and self._keeping is None:
            self._keeping = asyncio.create_task(self._keep(self._snapshots))
            self._keeping.add_done_callback(_stopped_keeping)

    def leave(self, partition: int) -> None:
        """The partition is another's now: its snapshot stays as it is."""
        self._held.discard(partition)

    def spoiled(self, partition: int) -> None:
        """Somebody in the partition's snapshot is to be forgotten: the file goes, and a new one is made in its turn."""
        if self._snapshots is not None:
            self._snapshots.remove(partition)

    async def _keep(self, snapshots: Snapshots) -> None:
        """Bring the snapshots of held partitions up to date, one after another, for ever."""
        while True:
            await asyncio.sleep(self._interval_s)
            await asyncio.to_thread(snapshots.remove_old)
            for partition in sorted(self._held):
                if partition in self._held and self._fetcher is not None:
                    await snapshots.advance(self._fetcher, partition)

    async def stop(self) -> None:
        if self._snapshots is not None and self._keeping is not None:
            self._snapshots.stop()
            self._keeping.cancel()
            await asyncio.wait([self._keeping], timeout=1.0)
        fetcher, self._fetcher = self._fetcher, None
        if fetcher is not None:
            await close(fetcher)


async def _load(snapshot: Snapshot, apply: Apply, tell: Tell) -> int:
    """Apply a snapshot's rows; how many."""
    rows, blocks = 0, snapshot.blocks()
    while (block := await asyncio.to_thread(next, blocks, None)) is not None:
        apply(*block)
        rows += len(block[0])
        tell(snapshot.read_bytes, snapshot.size_bytes)
    return rows


def _part(tell: Tell, start: int, stop: int, of: int) -> Tell:
    """Progress of a part that stands for the offsets from `start` to `stop`."""
    return lambda done, whole: tell(start + (stop - start) * done // max(whole, 1), of)


def _stopped_keeping(keeping: "asyncio.Task[None]") -> None:
    """Without snapshots the worker is as right as with them; but nobody should wait for one."""
    if not keeping.cancelled() and keeping.exception() is not None:
        log.error("no more snapshots are written", exc_info=keeping.exception())


def _nobody(done: int, of: int) -> None:
    """Nobody asks how far it is."""


class TableFollower:
    """Follows a whole compacted topic: `apply` sees every record from the first on, those of one partition a call, for
    as long as it runs."""

    def __init__(
        self, kafka: Kafka, topic: str, partitions: int, apply: Callable[[Sequence[Record]], None]
    ) -> None:
        self._kafka = kafka
        self._topic = prefixed(kafka.topic_prefix, topic)
        self._partitions = partitions
        self._apply = apply
        self.caught_up = asyncio.Event()  # everything that was there at the start has been applied

    async def run(self) -> None:
        """Follow until cancelled; a broker that goes away is waited for, and what was read is kept."""
        positions: dict[TopicPartition, int] = {}
        backoff_s = 0.2
        while True:
            consumer = AIOKafkaConsumer(**bulk_options(self._kafka))
            try:
                be_patient(consumer._client)
                await consumer.start()
                await self._follow(consumer, positions)
            except (KafkaError, OSError, Retry) as error:
                log.warning("cannot follow %s yet: %s", self._topic, error)
                await asyncio.sleep(backoff_s)
                backoff_s = min(backoff_s * 2, 5.0)
            finally:
                await close(consumer)

    async def _follow(self, consumer: AIOKafkaConsumer, positions: dict[TopicPartition, int]) -> None:
        tps = [TopicPartition(self._topic, p) for p in range(self._partitions)]
        consumer.assign(tps)
        ends = await consumer.end_offsets(tps)
        starts = await consumer.beginning_offsets(tps)
        for tp in tps:
            positions[tp] = positions.get(tp, starts[tp])
            consumer.seek(tp, positions[tp])
        while True:
            # of the consumer, which also passes over the markers of transactions
            if not self.caught_up.is_set() and all([await consumer.position(tp) >= ends[tp] for tp in tps]):
                self.caught_up.set()
            found = await consumer.getmany(timeout_ms=POLL_MS)
            if not self.caught_up.is_set():
                ends = {tp: max(ends[tp], consumer.highwater(tp) or 0) for tp in tps}
            for tp, read in found.items():
                self._apply(read)
                positions[tp] = read[-1].offset + 1
            await asyncio.sleep(0)


def bulk_options(kafka: Kafka) -> dict[str, Any]:
    """Options of a consumer that reads in bulk and belongs to no group."""
    return client_options(kafka) | {
        "group_id": None,
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "isolation_level": "read_committed",  # of exactly-once workers
        "fetch_max_wait_ms": 250,
        "max_partition_fetch_bytes": 4 << 20,
    }
