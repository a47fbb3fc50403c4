"""Single records of topics, by their place."""

import asyncio
from collections import OrderedDict
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from streams.errors import Retry
from streams.sections.kafka import Kafka
from streams.topology.topics import prefixed
from streams.transport.client import client_options, close
from streams.transport.patience import be_patient

WITHIN_S = 4.0
FETCH_BYTES = 1 << 20
AHEAD_BYTES = 16 << 20


class OneRecord:
    """Reads records one after another, over one connection that is made when it is first needed. What a fetch brings
    beyond the record is kept for a while, within a bound: whoever asks for one mostly asks for its neighbours, too."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._consumer: AIOKafkaConsumer | None = None
        self._turn = asyncio.Lock()
        self._ahead: OrderedDict[tuple[str, int, int], Any] = OrderedDict()
        self._ahead_bytes = 0
        self._stopped = False

    async def get(self, topic: str, partition: int, offset: int) -> Any | None:
        """The record, or None when the topic no longer has it. Raises Retry."""
        async with self._turn:
            if self._stopped:
                raise Retry("the worker is stopping")
            if (found := self._ahead.get((topic, partition, offset))) is not None:
                return found
            try:
                return await asyncio.wait_for(self._get(topic, partition, offset), WITHIN_S)
            except OffsetOutOfRangeError:
                return None
            except (KafkaError, OSError, asyncio.TimeoutError) as error:
                await self._close()
                raise Retry(f"{topic}[{partition}] cannot be read now: {error!r}") from error

    async def _get(self, topic: str, partition: int, offset: int) -> Any | None:
        consumer = self._consumer
        if consumer is None:
            consumer = AIOKafkaConsumer(
                **client_options(self._kafka),
                group_id=None,
                auto_offset_reset="none",  # an offset that is gone is an error, not another record
                fetch_max_wait_ms=100,
                max_partition_fetch_bytes=FETCH_BYTES,
            )
            be_patient(consumer._client)
            await consumer.start()
            self._consumer = consumer
        tp = TopicPartition(prefixed(self._kafka.topic_prefix, topic), partition)
        consumer.assign([tp])
        consumer.seek(tp, offset)
        records: list[Any] = []
        while not records:
            records = (await consumer.getmany(tp, timeout_ms=500)).get(tp, [])
            if not records and offset >= (consumer.highwater(tp) or 0):
                return None  # nothing was ever there
        consumer.pause(tp)
        for record in records:
            self._keep((topic, partition, record.offset), record)
        return records[0] if records[0].offset == offset else None

    def _keep(self, place: tuple[str, int, int], record: Any) -> None:
        if place in self._ahead or record.value is None:
            return
        self._ahead[place] = record
        self._ahead_bytes += len(record.value)
        while self._ahead_bytes > AHEAD_BYTES:
            _, left = self._ahead.popitem(last=False)
            self._ahead_bytes -= len(left.value)

    async def _close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await close(consumer)

    async def stop(self) -> None:
        """Close the connection."""
        self._stopped = True
        await self._close()
