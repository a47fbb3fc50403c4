"""Reading all that a run left on the broker, as a plain consumer sees it."""

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.errors import Fatal
from streams.settings import Settings
from streams.topology.topics import TOPOLOGY, prefixed
from streams.transport.client import client_options, close
from streams.verify.judgement import Found
from streams.verify.readers import without_heartbeats

INPUTS = {
    "clicks": "clicks",
    "items": "transitions",
    "privacy": "privacy",
    "uploads": "uploads",
}  # agent -> the topic it reads
READ_WITHIN_S = 120.0  # all records of one topic

Offsets = dict[tuple[str, int], int]  # by (input topic, partition)


async def committed(settings: Settings, agents: Sequence[str]) -> Offsets:
    """What the groups have committed. Raises KafkaError."""
    found: Offsets = {}
    for agent in agents:
        consumer = _consumer(settings, group_id=f"{settings.kafka.group}.{agent}")
        try:
            await consumer.start()
            for partition in range(settings.topics.partitions):
                tp = TopicPartition(prefixed(settings.kafka.topic_prefix, INPUTS[agent]), partition)
                found[INPUTS[agent], partition] = await consumer.committed(tp) or 0
        finally:
            await close(consumer)
    return found


async def records(settings: Settings, topics: Sequence[str]) -> dict[str, list[Any]]:
    """All records of topics, by name without prefix. Raises KafkaError, and Fatal when a topic has no end."""
    consumer = _consumer(settings)
    try:
        await consumer.start()
        found: dict[str, list[Any]] = {}
        for topic in topics:
            name = prefixed(settings.kafka.topic_prefix, topic)
            tps = [TopicPartition(name, p) for p in range(settings.topics.partitions)]
            try:
                parts = await asyncio.wait_for(_read_all(consumer, tps), READ_WITHIN_S)
            except asyncio.TimeoutError as error:
                raise Fatal(f"{name} could not be read to its end within {READ_WITHIN_S:g} s") from error
            found[topic] = [r for part in parts.values() for r in part]
        return found
    finally:
        await close(consumer)


async def collect(settings: Settings, agents: Sequence[str], sent: dict[str, list[bytes]]) -> Found:
    """All that there is to judge. `sent` is what was sent, and acknowledged, by input topic."""
    logs = await records(settings, [topic.name for topic in TOPOLOGY])
    read = [r for agent in agents for r in without_heartbeats(logs[INPUTS[agent]])]
    last = ends(read, settings.kafka.topic_prefix)
    return Found(logs, await committed(settings, agents), last, sent)


def ends(found: Sequence[Any], prefix: str) -> Offsets:
    """Where partitions end after these records, markers of transactions left out."""
    last: Offsets = {}
    for record in found:
        key = record.topic.removeprefix(prefix), record.partition
        last[key] = max(last.get(key, 0), record.offset + 1)
    return last


def _consumer(settings: Settings, group_id: str | None = None) -> Any:
    exactly_once = settings.worker.delivery == "exactly_once"
    return AIOKafkaConsumer(
        **client_options(settings.kafka),
        group_id=group_id,
        enable_auto_commit=False,
        isolation_level="read_committed" if exactly_once else "read_uncommitted",
        max_partition_fetch_bytes=4 << 20,
    )


async def _read_all(consumer: Any, tps: Sequence[TopicPartition]) -> dict[TopicPartition, list[Any]]:
    """Every record of the partitions."""
    consumer.assign(list(tps))
    found: dict[TopicPartition, list[Any]] = {tp: [] for tp in tps}
    await consumer.seek_to_beginning(*tps)  # dead letters of readers who were forgotten may be gone
    last = await consumer.end_offsets(list(tps))
    while True:
        for tp, some in (await consumer.getmany(timeout_ms=300)).items():
            found[tp] += some
        last = {tp: max(last[tp], consumer.highwater(tp) or 0) for tp in tps}
        if all([await consumer.position(tp) >= last[tp] for tp in tps]):
            return found
