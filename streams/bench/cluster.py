"""Topics of a case, the feed into them, and what a group has committed."""

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams.bench.feed import Drawn, by_partition, keys, values
from streams.feed.records import partition_of
from streams.settings import Settings, load
from streams.topology import admin
from streams.topology.topics import CLICKS, prefixed
from streams.transport.client import close

SETTLE_S = 30.0
IN_FLIGHT = 32


def settings_for(bootstrap: str, prefix: str, partitions: int, **sections: dict[str, Any]) -> Settings:
    """The worker's settings for one case; sections given win. Everything else is the user's own or the default."""
    base: dict[str, dict[str, Any]] = {
        "kafka": {
            "bootstrap": bootstrap,
            "topic_prefix": prefix,
            "group": f"{prefix}group",
            "session_timeout_s": 6.0,  # Kafka's smallest; the embedded broker waits half of it for the first join
            "heartbeat_interval_s": 2.0,
        },
        "topics": {"partitions": partitions, "replication": 1},
        "observe": {"enabled": False},
        "worker": {"agents": ("clicks",)},
    }
    for name, given in sections.items():
        base.setdefault(name, {}).update(given)
    return load(None, base)


async def prepare(settings: Settings, drawn: Drawn) -> list[int]:
    """Create the case's topics and produce the feed; records of each partition."""
    await admin.apply(settings)
    made_keys = keys(drawn)
    partitions = settings.topics.partitions
    where = {key: partition_of(key, partitions) for key in set(made_keys)}
    split = by_partition(made_keys, where, partitions)
    made_values = values(drawn)
    topic = prefixed(settings.kafka.topic_prefix, CLICKS)
    for partition, chosen in enumerate(split):
        await produce(
            settings.kafka.bootstrap,
            topic,
            partition,
            [made_keys[n] for n in chosen],
            [made_values[n] for n in chosen],
        )
    return [len(chosen) for chosen in split]


async def produce(
    bootstrap: str, topic: str, partition: int, keys_: Sequence[bytes], values_: Sequence[bytes]
) -> None:
    """Write records of one partition in order; return when the broker has them all."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", max_batch_size=200_000)
    await producer.start()
    try:
        waiting: list[Any] = []
        builder = producer.create_batch()
        for key, value in zip(keys_, values_, strict=True):
            if builder.append(key=key, value=value, timestamp=None) is None:
                waiting.append(await producer.send_batch(builder, topic, partition=partition))
                builder = producer.create_batch()
                builder.append(key=key, value=value, timestamp=None)
            if len(waiting) >= IN_FLIGHT:
                await asyncio.gather(*waiting)
                waiting = []
        if builder.record_count():
            waiting.append(await producer.send_batch(builder, topic, partition=partition))
        await asyncio.gather(*waiting)
    finally:
        await close(producer)


class Committed:
    """What a group has committed, seen from outside of it."""

    def __init__(self, bootstrap: str, group: str, topic: str, partitions: int) -> None:
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False
        )
        self._tps = [TopicPartition(topic, partition) for partition in range(partitions)]

    async def __aenter__(self) -> "Committed":
        await self._consumer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await close(self._consumer)

    async def total(self) -> int:
        """Sum of the committed offsets; topics of a case begin at 0 and have no gaps."""
        found = [await self._consumer.committed(tp) for tp in self._tps]
        return sum(offset or 0 for offset in found)

    async def reaches(self, clicks: int, every_s: float = 0.01) -> None:
        """Return when so many records are committed. Raises TimeoutError after half a minute."""

        async def poll() -> None:
            while await self.total() < clicks:  # noqa: ASYNC110 - another process moves it
                await asyncio.sleep(every_s)

        await asyncio.wait_for(poll(), SETTLE_S)
