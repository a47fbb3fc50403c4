"""Records sent as they are, whatever they hold, and what a worker counted of them."""

from collections.abc import Sequence

from aiokafka import AIOKafkaProducer

from bad_records import Headers
from streams.clock import SystemClock
from streams.transport.client import close
from streams.worker.app import Worker

Sent = tuple[bytes | None, bytes | None, Headers]


async def send(bootstrap: str, topic: str, records: Sequence[Sent]) -> None:
    """All into partition 1, good and bad in one batch as far as they fit."""
    now_ms = SystemClock().wall_ms()  # an old one, and retention takes the record away within the test
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=5)
    await producer.start()
    try:
        for key, value, headers in records:
            builder = producer.create_batch()  # `send` refuses a record without key and value
            assert builder.append(timestamp=now_ms, key=key, value=value, headers=headers) is not None
            await (await producer.send_batch(builder, topic, partition=1))
    finally:
        await close(producer)


def value_of(worker: Worker, name: str, **labels: str) -> float:
    """The sum of a metric's series with these labels."""
    return sum(
        sample.value
        for family in worker.metrics.registry.collect()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )
