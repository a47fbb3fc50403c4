"""A partition of so many batches that the embedded broker does not look through them within a fetch's wait."""

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.demo.broker import EmbeddedBroker
from streams.transport.client import close
from streams.transport.patience import be_patient

BATCHES = 4_000  # looking through them takes the broker 2 ms or more
WAIT_MS = 1
PRODUCERS = 8  # each has one batch of a partition on its way


@pytest.mark.embedded
def test_the_last_record_of_many_batches_arrives_however_short_the_wait(
    embedded_broker: EmbeddedBroker, topic_prefix: str
) -> None:
    topic, bootstrap = f"{topic_prefix}many", embedded_broker.bootstrap

    async def main() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic(topic, 1, 1)])
        await admin.close()
        await asyncio.gather(*(_fill(bootstrap, topic) for _ in range(PRODUCERS)))
        consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, fetch_max_wait_ms=WAIT_MS)
        waits_ms = _noted(consumer)
        be_patient(consumer._client)
        await consumer.start()
        try:
            consumer.assign([TopicPartition(topic, 0)])
            consumer.seek(TopicPartition(topic, 0), BATCHES - 1)
            record = await asyncio.wait_for(consumer.getone(), 10)
        finally:
            await close(consumer)
        assert record.offset == BATCHES - 1
        assert max(waits_ms) > WAIT_MS  # it was cut off before

    asyncio.run(main())


async def _fill(bootstrap: str, topic: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    for _ in range(BATCHES // PRODUCERS):
        await producer.send_and_wait(topic, b"x" * 100, partition=0)
    await close(producer)


def _noted(consumer: AIOKafkaConsumer) -> list[int]:
    """The longest waits of its fetches, in milliseconds, as they leave."""
    found: list[int] = []
    send = consumer._client.send

    async def noting(node_id: int, request: object, **options: object) -> object:
        found.append(getattr(request, "_max_wait_ms", 0))
        return await send(node_id, request, **options)

    consumer._client.send = noting
    return found
