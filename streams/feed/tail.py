"""Reads topics without a consumer group: nothing is committed, nobody's work is touched."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.settings import Settings
from streams.topology.topics import prefixed
from streams.transport.client import client_options
from streams.transport.patience import be_patient

FETCH_BYTES = 8 << 20
POLL_MS = 200
FETCHES = 25
"""At most so many polls for the watermarks: five seconds."""


@asynccontextmanager
async def reading(
    settings: Settings, partitions: dict[str, int]
) -> AsyncIterator[tuple[AIOKafkaConsumer, dict[TopicPartition, int]]]:
    """A consumer of every partition of the topics (topic -> count), standing at their ends, and these ends."""
    consumer = AIOKafkaConsumer(
        **client_options(settings.kafka),
        group_id=None,
        max_partition_fetch_bytes=FETCH_BYTES,
        isolation_level="read_committed",  # what an aborted transaction wrote was never said
    )
    be_patient(consumer._client)
    await consumer.start()
    try:
        all_of_them = [
            TopicPartition(prefixed(settings.kafka.topic_prefix, topic), partition)
            for topic, count in partitions.items()
            for partition in range(count)
        ]
        consumer.assign(all_of_them)
        found = await _ends(consumer, all_of_them)
        for partition, offset in found.items():
            consumer.seek(partition, offset)
        yield consumer, found
    finally:
        await consumer.stop()


async def _ends(
    consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]
) -> dict[TopicPartition, int]:
    """The offsets after the newest records.

    Asked twice, since Tansu answers ListOffsets with the *first* record of the newest batch: the high watermark
    of a fetch there tells the truth (measured: batches of 10 and 20 records, 11 and 30).
    """
    listed: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
    waiting = {partition for partition, offset in listed.items() if offset > 0}
    for partition, offset in listed.items():
        consumer.seek(partition, max(offset - 1, 0))
    for _ in range(FETCHES):
        if not waiting:
            break
        await consumer.getmany(timeout_ms=POLL_MS)  # for the watermark; the records are read again
        waiting = {partition for partition in waiting if consumer.highwater(partition) is None}
    return {
        partition: max(offset, consumer.highwater(partition) or 0) for partition, offset in listed.items()
    }


async def records(
    settings: Settings, topic: str, partitions: int, *, from_beginning: bool, follow: bool
) -> AsyncGenerator[Any, None]:
    """The topic's records as they come (aiokafka's ConsumerRecord), in order per partition.

    Without `follow` it ends at what was the end when it began.
    """
    async with reading(settings, {topic: partitions}) as (consumer, until):
        left: set[TopicPartition] = set()
        if from_beginning:
            begins: dict[TopicPartition, int] = await consumer.beginning_offsets(list(until))
            for partition, offset in begins.items():
                consumer.seek(partition, offset)
            left = {partition for partition, end in until.items() if begins[partition] < end}
        while follow or left:
            batches = await consumer.getmany(timeout_ms=POLL_MS)
            for partition, batch in batches.items():
                for record in batch:
                    if follow or record.offset < until[partition]:
                        yield record
            # Compaction and transaction markers leave gaps: the position tells, not the last record.
            for partition in list(left):
                if await consumer.position(partition) >= until[partition]:
                    left.discard(partition)
