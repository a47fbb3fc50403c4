"""Follows output topics from a little before their ends, in no group: what a worker shows of all workers' work."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from aiokafka.errors import KafkaError

from streams.errors import EnvironmentProblem
from streams.feed.tail import POLL_MS, reading
from streams.settings import Settings
from streams.topology.topics import prefixed

log = logging.getLogger(__name__)

LAST_BACKOFF_S = 5.0
MOST_AT_ONCE = 500


async def follow(settings: Settings, topics: Mapping[str, int], take: Callable[[str, Any], None]) -> None:
    """Hand every record of the topics to `take` with the topic's name, from so many records (topic -> records) before
    its end on, until cancelled. A broker that goes away is waited for; then it goes on where it was."""
    names = {prefixed(settings.kafka.topic_prefix, topic): topic for topic in topics}
    partitions = settings.topics.partitions
    positions: dict[Any, int] = {}
    backoff_s = 0.2
    while True:
        try:
            async with reading(settings, dict.fromkeys(topics, partitions)) as (consumer, ends):
                begins = await consumer.beginning_offsets(list(ends))
                for partition, end in ends.items():
                    share = max(1, topics[names[partition.topic]] // partitions)
                    start = positions.get(partition, end - share)
                    consumer.seek(partition, max(begins[partition], min(start, end)))
                backoff_s = 0.2
                while True:
                    found = await consumer.getmany(timeout_ms=POLL_MS, max_records=MOST_AT_ONCE)
                    for partition, records in found.items():
                        for record in records:
                            take(names[partition.topic], record)
                        positions[partition] = records[-1].offset + 1
                    await asyncio.sleep(0)  # a full buffer makes getmany return at once
        except (KafkaError, OSError, EnvironmentProblem) as error:
            log.info("cannot follow %s yet: %s", ", ".join(sorted(topics)), error)
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, LAST_BACKOFF_S)
