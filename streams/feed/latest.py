"""Follows output topics from a little before their ends, in no group: what a worker shows of all workers' work."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from aiokafka.errors import KafkaError

from streams.errors import EnvironmentProblem
from streams.feed.tail import POLL_MS, reading
from streams.settings import Settings
from streams.topics import prefixed

log = logging.getLogger(__name__)

LAST_BACKOFF_S = 5.0


async def follow(
    settings: Settings, topics: Mapping[str, int], back: int, take: Callable[[str, Any], None]
) -> None:
    """Hand every record of the topics (topic -> partitions) to `take` with the topic's name, from `back` records before
    the end of each on, until cancelled. A broker that goes away is waited for; then it begins again, and `take` may see
    a record twice."""
    names = {prefixed(settings.kafka.topic_prefix, topic): topic for topic in topics}
    backoff_s = 0.2
    while True:
        try:
            async with reading(settings, dict(topics)) as (consumer, ends):
                begins = await consumer.beginning_offsets(list(ends))
                for partition, end in ends.items():
                    share = max(1, back // topics[names[partition.topic]])
                    consumer.seek(partition, max(begins[partition], end - share))
                backoff_s = 0.2
                while True:
                    for partition, records in (
                        await consumer.getmany(timeout_ms=POLL_MS, max_records=500)
                    ).items():
                        for record in records:
                            take(names[partition.topic], record)
                    await asyncio.sleep(0)
        except (KafkaError, OSError, EnvironmentProblem) as error:
            log.info("cannot follow %s yet: %s", ", ".join(topics), error)
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, LAST_BACKOFF_S)
