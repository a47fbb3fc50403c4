"""The producer on a broker: after `restart` nothing that was queued before leaves any more, and sending goes on."""

import asyncio
from typing import Any

import pytest

from running import read_all, settings_for
from streams.clock import Clock, SystemClock
from streams.effects import Emit
from streams.errors import Retry
from streams.settings import Settings
from streams.topology.admin import apply
from streams.topology.topics import LABELS
from streams.transport.lease import Lease
from streams.transport.producer import BatchProducer

LANES = [
    pytest.param("embedded", marks=pytest.mark.embedded),
    pytest.param("kafka", marks=pytest.mark.kafka),
]
MANY = 300


def emit(text: bytes, count: int = 1) -> Emit:
    return Emit(LABELS, 0, [text] * count, [text] * count)


async def values(settings: Settings) -> list[bytes]:
    found = await read_all(settings.kafka.bootstrap, f"{settings.kafka.topic_prefix}{LABELS}")
    return [record.value for record in found]


@pytest.mark.parametrize("lane", LANES)
def test_nothing_queued_leaves_after_a_restart(
    lane: str, request: pytest.FixtureRequest, topic_prefix: str
) -> None:
    settings = settings_for(request.getfixturevalue(f"{lane}_broker").bootstrap, topic_prefix, ("clicks",))

    async def main() -> None:
        await apply(settings)
        producer = BatchProducer(settings.kafka)
        await producer.start()
        try:
            await producer.confirmed(await producer.send(emit(b"first"), 0))
            sends = [asyncio.create_task(producer.send(emit(b"old", 50), 0)) for _ in range(MANY)]
            await asyncio.sleep(0.005)
            await producer.restart()
            written = len(await values(settings))
            assert written < 1 + 50 * MANY, "all had left before the restart: nothing was tested"
            failed = [
                one for one in await asyncio.gather(*sends, return_exceptions=True) if isinstance(one, Retry)
            ]
            assert failed
            await producer.confirmed(await producer.send(emit(b"new"), 0))
            await asyncio.sleep(0.5)
            found = await values(settings)
            assert found[written:] == [b"new"]
        finally:
            await producer.stop(2.0)

    asyncio.run(main())


@pytest.mark.parametrize("lane", LANES)
def test_batches_of_a_partition_wait_for_each_other_and_arrive_in_order(
    lane: str, request: pytest.FixtureRequest, topic_prefix: str
) -> None:
    settings = settings_for(request.getfixturevalue(f"{lane}_broker").bootstrap, topic_prefix, ("clicks",))
    texts = [str(n).encode() for n in range(MANY)]

    async def main() -> None:
        await apply(settings)
        producer = BatchProducer(settings.kafka)
        await producer.start()
        queues = producer._producer._message_accumulator._batches  # type: ignore[union-attr]
        waiting: list[int] = []
        try:
            sends = [asyncio.create_task(producer.send(emit(text), 0)) for text in texts]
            while not all(send.done() for send in sends):
                await asyncio.sleep(0)
                waiting += map(len, queues.values())
            await producer.confirmed([future for send in sends for future in send.result()])
            assert await values(settings) == texts
            assert max(waiting) <= 2  # one waits, one is tried again: what is queued is bounded
        finally:
            await producer.stop(2.0)

    asyncio.run(main())


class _Sleeper(SystemClock):
    """A clock of a process that stood still."""

    def __init__(self) -> None:
        self.slept_s = 0.0

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.slept_s


def test_nothing_leaves_without_the_lease(kafka_broker: Any, topic_prefix: str) -> None:
    settings = settings_for(kafka_broker.bootstrap, topic_prefix, ("clicks",))

    async def main() -> None:
        await apply(settings)
        clock = _Sleeper()
        made: Clock = clock
        lease = Lease(made, 5.0)
        producer = BatchProducer(settings.kafka, lease)
        await producer.start()
        try:
            await producer.confirmed(await producer.send(emit(b"before"), 0))
            clock.slept_s = 6.0
            stale = await producer.send(emit(b"stale"), 0)
            await asyncio.sleep(0.5)
            assert await values(settings) == [b"before"]
            assert lease.beat() > 5.0
            await producer.restart()
            lease.renew()
            lease.confirm(clock.monotonic_s())
            with pytest.raises(Retry):
                await producer.confirmed(stale)
            await producer.confirmed(await producer.send(emit(b"after"), 0))
            assert await values(settings) == [b"before", b"after"]
        finally:
            await producer.stop(2.0)

    asyncio.run(main())
