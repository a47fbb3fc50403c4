"""Reads topics without a consumer group: nothing is committed, nobody's work is touched."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.settings import Settings
from streams.topics import prefixed
from streams.transport.client import client_options

FETCH_BYTES = 8 << 20
POLL_MS = 200


@asynccontextmanager
async def reading(settings: Settings, partitions: dict[str, int]) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of every partition of the topics (topic -> count), standing at their ends."""
    consumer = AIOKafkaConsumer(
        **client_options(settings.kafka), group_id=None, max_partition_fetch_bytes=FETCH_BYTES
    )
    await consumer.start()
    try:
        all_of_them = [
            TopicPartition(prefixed(settings.kafka.topic_prefix, topic), partition)
            for topic, count in partitions.items()
            for partition in range(count)
        ]
        consumer.assign(all_of_them)
        await ends(consumer, all_of_them)
        yield consumer
    finally:
        await consumer.stop()


async def ends(consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """The offsets after the newest records; the consumer stands there afterwards."""
    found: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
    for partition, offset in found.items():
        consumer.seek(partition, offset)
    return found


async def records(
    settings: Settings, topic: str, partitions: int, *, from_beginning: bool, follow: bool
) -> AsyncGenerator[Any, None]:
    """The topic's records as they come (aiokafka's ConsumerRecord), in order per partition.

    Without `follow` it ends at what was the end when it began.
    """
    async with reading(settings, {topic: partitions}) as consumer:
        assigned = list(consumer.assignment())
        until = await ends(consumer, assigned)
        begins: dict[TopicPartition, int] = await consumer.beginning_offsets(assigned)
        if from_beginning:
            for partition, offset in begins.items():
                consumer.seek(partition, offset)
        left = {p for p, end in until.items() if from_beginning and begins[p] < end}
        while follow or left:
            batches = await consumer.getmany(timeout_ms=POLL_MS)
            for partition, batch in batches.items():
                for record in batch:
                    if follow or record.offset < until[partition]:
                        yield record
            for partition in list(left):
                # Compaction and transaction markers leave gaps: the position tells, not the last record.
                if await consumer.position(partition) >= until[partition]:
                    left.discard(partition)
            await asyncio.sleep(0)
