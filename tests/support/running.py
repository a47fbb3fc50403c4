"""Run real workers inside a test: settings on a broker, the agents named, awaited until ready, stopped at the end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams.clock import Clock, SystemClock
from streams.settings import Settings, load
from streams.topology.admin import apply
from streams.transport.client import close
from streams.worker.app import Worker


def settings_for(
    bootstrap: str, prefix: str, agents: tuple[str, ...], **sections: dict[str, Any]
) -> Settings:
    """Small settings under a prefix of their own, with short sessions: a lost member is missed soon. What only bounds a
    wait is as long as by default. Sections given win."""
    base: dict[str, dict[str, Any]] = {
        "kafka": {
            "bootstrap": bootstrap,
            "topic_prefix": prefix,
            "group": f"{prefix}group",
            "session_timeout_s": 3.0,
            "heartbeat_interval_s": 0.5,
        },
        "topics": {"partitions": 4},
        "worker": {"agents": agents},
        "observe": {"port": 0},
        "reader": {"commit_interval_s": 0.2},
    }
    for name, values in sections.items():
        base.setdefault(name, {}).update(values)
    return load(None, base)


@contextlib.asynccontextmanager
async def running(
    settings: Settings, ready_within_s: float = 90.0, create: bool = True, clock: Clock | None = None
) -> AsyncIterator[Worker]:
    """A worker with its topics, ready; a failure inside it fails the test."""
    if create:
        await apply(settings)
    worker = Worker(settings, clock or SystemClock())
    try:
        await worker.start()
        await until(lambda: worker.ready or worker.failed.done(), ready_within_s, "the worker is ready")
        assert not worker.failed.done(), worker.failed.result()
        yield worker
        assert not worker.failed.done(), worker.failed.result()
    finally:
        await worker.stop()


async def until(condition: Any, within_s: float, what: str) -> None:
    """Wait for a condition; fail with what was waited for."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"not within {within_s} s: {what}"
        await asyncio.sleep(0.05)


async def produce(
    bootstrap: str, topic: str, records: list[tuple[bytes | None, bytes | None]], **options: Any
) -> None:
    """Send keyed records and wait for all."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", max_request_size=16 << 20, **options)
    await producer.start()
    try:
        sent = [await producer.send(topic, key=key, value=value) for key, value in records]
        await asyncio.gather(*sent)
    finally:
        await close(producer)


async def read_all(
    bootstrap: str,
    topic: str,
    at_least: int = 0,
    within_s: float = 60.0,
    partitions: int = 4,
    isolation_level: str = "read_uncommitted",
) -> list[Any]:
    """Every record of a topic, partition by partition; waits until there are `at_least` so many."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=None,
        max_partition_fetch_bytes=8 << 20,
        isolation_level=isolation_level,
    )
    await consumer.start()
    try:
        tps = [TopicPartition(topic, p) for p in range(partitions)]
        consumer.assign(tps)
        for tp in tps:
            consumer.seek(tp, 0)
        records: list[Any] = []
        deadline = asyncio.get_running_loop().time() + within_s
        while True:
            ends = await consumer.end_offsets(tps)
            found = await consumer.getmany(timeout_ms=200)
            for batch in found.values():
                records += batch
            # Tansu answers end_offsets with too little; a fetch tells the truth
            ends = {tp: max(ends[tp], consumer.highwater(tp) or 0) for tp in tps}
            positions = [await consumer.position(tp) >= ends[tp] for tp in tps]
            if all(positions) and len(records) >= at_least:
                return records
            assert asyncio.get_running_loop().time() < deadline, f"{topic}: {len(records)} of {at_least}"
    finally:
        await close(consumer)


async def committed(bootstrap: str, group: str, topic: str, partitions: int) -> dict[int, int | None]:
    """What a group has committed."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        return {p: await consumer.committed(TopicPartition(topic, p)) for p in range(partitions)}
    finally:
        await close(consumer)
