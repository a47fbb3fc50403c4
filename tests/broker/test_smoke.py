"""Each lane's broker takes records from aiokafka and gives them back, to a group that commits."""

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

RECORDS = 300
WITHIN_S = 30.0


def test_what_is_produced_is_consumed_in_order_per_partition(any_broker: Any, topic_prefix: str) -> None:
    topic = f"{topic_prefix}smoke"
    any_broker.create_topic(topic, 3)
    sent = {partition: [f"{partition}-{n}".encode() for n in range(RECORDS)] for partition in range(3)}

    got = asyncio.run(asyncio.wait_for(_round_trip(any_broker.bootstrap, topic, sent), WITHIN_S))

    assert got == sent


def test_a_group_goes_on_where_it_committed(any_broker: Any, topic_prefix: str) -> None:
    topic, group = f"{topic_prefix}commit", f"{topic_prefix}group"
    any_broker.create_topic(topic, 1)
    sent = {0: [str(n).encode() for n in range(10)]}

    async def run() -> list[bytes]:
        await _produce(any_broker.bootstrap, topic, sent)
        first = await _started(any_broker.bootstrap, topic, group)
        await first.getone()
        await first.commit({TopicPartition(topic, 0): 4})
        await first.stop()
        second = await _started(any_broker.bootstrap, topic, group)
        try:
            return [(await second.getone()).value for _ in range(6)]
        finally:
            await second.stop()

    assert asyncio.run(asyncio.wait_for(run(), WITHIN_S)) == sent[0][4:]


async def _round_trip(bootstrap: str, topic: str, sent: dict[int, list[bytes]]) -> dict[int, list[bytes]]:
    await _produce(bootstrap, topic, sent)
    consumer = await _started(bootstrap, topic, None)
    got: dict[int, list[bytes]] = {partition: [] for partition in sent}
    try:
        while sum(map(len, got.values())) < sum(map(len, sent.values())):
            record = await consumer.getone()
            got[record.partition].append(record.value)
    finally:
        await consumer.stop()
    return got


async def _produce(bootstrap: str, topic: str, sent: dict[int, list[bytes]]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=5)
    await producer.start()
    try:
        for partition, values in sent.items():
            for value in values:
                await producer.send(topic, value, partition=partition)
        await producer.flush()
    finally:
        await producer.stop()


async def _started(bootstrap: str, topic: str, group: str | None) -> AIOKafkaConsumer:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=2_000,  # the first join takes half of it on Tansu
        heartbeat_interval_ms=500,
    )
    await consumer.start()
    return consumer
