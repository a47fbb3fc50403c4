"""Giving a producer's queue up, with aiokafka's own queue and no broker: nobody waits for what will never be sent."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import MessageAccumulator

from streams.transport.producer import abandon

PLACE = TopicPartition("t", 0)


class Client:
    async def close(self) -> None: ...


def a_batch(queue: Any) -> Any:
    builder = queue.create_builder()
    assert builder.append(timestamp=0, key=b"k", value=b"v") is not None
    return builder


def test_who_has_just_been_given_room_in_the_queue_is_refused() -> None:
    """A partition takes one waiting batch: the second waits until the first leaves. It leaves, and in the same turn of
    the loop the connection is given up."""

    async def main() -> None:
        queue: Any = MessageAccumulator(None, 1000, 0, 5)
        producer: Any = SimpleNamespace(
            _sender=SimpleNamespace(sender_task=None), _message_accumulator=queue, client=Client()
        )
        first = await queue.add_batch(a_batch(queue), PLACE, 10)
        second = asyncio.create_task(queue.add_batch(a_batch(queue), PLACE, 10))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not second.done()
        queue._pop_batch(PLACE)
        await abandon(producer)
        for waits in (first, second):
            with pytest.raises(KafkaError, match="given up"):
                await waits

    asyncio.run(main())
