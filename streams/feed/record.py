"""One record of a topic, by its place."""

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams.errors import Retry
from streams.feed.tail import FETCH_BYTES
from streams.settings import Kafka
from streams.topics import prefixed
from streams.transport.client import client_options, close

WITHIN_S = 4.0


class OneRecord:
    """Reads single records, one after another, over one connection that is made when it is first needed."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._consumer: AIOKafkaConsumer | None = None
        self._turn = asyncio.Lock()

    async def get(self, topic: str, partition: int, offset: int) -> Any | None:
        """The record, or None when the topic no longer has it. Raises Retry."""
        async with self._turn:
            try:
                return await asyncio.wait_for(self._get(topic, partition, offset), WITHIN_S)
            except (KafkaError, OSError, asyncio.TimeoutError) as error:
                await self._close()
                raise Retry(f"{topic}[{partition}] cannot be read now: {error!r}") from error

    async def _get(self, topic: str, partition: int, offset: int) -> Any | None:
        if self._consumer is None:
            options = client_options(self._kafka)
            consumer = AIOKafkaConsumer(**options, group_id=None, max_partition_fetch_bytes=FETCH_BYTES)
            await consumer.start()
            self._consumer = consumer
        tp = TopicPartition(prefixed(self._kafka.topic_prefix, topic), partition)
        self._consumer.assign([tp])
        if offset < (await self._consumer.beginning_offsets([tp]))[tp]:
            return None
        self._consumer.seek(tp, offset)
        record = await self._consumer.getone(tp)
        return record if record.offset == offset else None

    async def _close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await close(consumer)

    async def stop(self) -> None:
        """Close the connection."""
        await self._close()
