"""The changelog reader on real brokers: the same records as a plain consumer of the same partition finds."""

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from mock_cluster import FETCH, NOT_LEADER, REQUEST_TIMED_OUT, MockCluster
from running import settings_for
from streams.errors import Retry
from streams.settings import Settings
from streams.state import batches
from streams.state.changelog import ChangelogReader
from streams.topology.admin import apply
from streams.topology.topics import TASTE_CHANGELOG
from streams.transport.client import close

LANES = [
    pytest.param("embedded", marks=pytest.mark.embedded),
    pytest.param("kafka", marks=pytest.mark.kafka),
]
Row = tuple[bytes, bytes | None]


@pytest.fixture(params=LANES)
def settings(request: pytest.FixtureRequest, topic_prefix: str) -> Settings:
    broker = request.getfixturevalue(f"{request.param}_broker")
    made = settings_for(broker.bootstrap, topic_prefix, ("clicks",))
    asyncio.run(apply(made))
    return made


def topic_of(settings: Settings) -> str:
    return f"{settings.kafka.topic_prefix}{TASTE_CHANGELOG}"


async def send(settings: Settings, rows: Sequence[Row], **options: Any) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap, acks="all", **options)
    await producer.start()
    try:
        sent = [await producer.send(topic_of(settings), value, key, partition=1) for key, value in rows]
        await asyncio.gather(*sent)
    finally:
        await close(producer)


def some(n: int, seed: int) -> list[Row]:
    draw = random.Random(seed)
    return [
        (b"u%d" % draw.randrange(500), None if n % 50 == 7 else draw.randbytes(draw.randrange(1500)))
        for n in range(n)
    ]


async def by_a_consumer(settings: Settings) -> list[Row]:
    """The oracle: record by record, read_committed, to the high watermark."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka.bootstrap, group_id=None, isolation_level="read_committed"
    )
    await consumer.start()
    try:
        tp = TopicPartition(topic_of(settings), 1)
        consumer.assign([tp])
        consumer.seek(tp, 0)
        rows: list[Row] = []
        while consumer.highwater(tp) is None or await consumer.position(tp) < consumer.highwater(tp):
            found = await consumer.getmany(tp, timeout_ms=300)
            rows += [(record.key, record.value) for record in found.get(tp, ())]
        return rows
    finally:
        await close(consumer)


async def by_the_reader(settings: Settings) -> list[Row]:
    reader = ChangelogReader(settings.kafka, TASTE_CHANGELOG)
    rows: list[Row] = []
    try:
        count = await reader.replay(1, lambda keys, values: rows.extend(zip(keys, values, strict=True)))
    finally:
        await reader.stop()
    assert count == len(rows)
    return rows


async def same_for_both(settings: Settings) -> list[Row]:
    rows = await by_the_reader(settings)
    assert rows == await by_a_consumer(settings)
    return rows


@pytest.mark.parametrize("fetch_bytes", [batches.FETCH_BYTES, 20_000, 500])
def test_plain_compressed_and_removed_rows(
    settings: Settings, fetch_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in fetches that cut batches off, or hold less than one."""
    monkeypatch.setattr(batches, "FETCH_BYTES", fetch_bytes)

    async def run() -> None:
        first, second = some(400, 1), some(400, 2)
        await send(settings, first)
        await send(settings, second, compression_type="gzip")
        assert await same_for_both(settings) == first + second

    asyncio.run(run())


def test_an_empty_partition_is_read_at_once(settings: Settings) -> None:
    began = time.monotonic()
    assert asyncio.run(by_the_reader(settings)) == []
    assert time.monotonic() - began < 3


@pytest.mark.kafka
def test_transactions_committed_aborted_and_open(kafka_broker: Any, topic_prefix: str) -> None:
    settings = settings_for(kafka_broker.bootstrap, topic_prefix, ("clicks",))

    async def run() -> None:
        await apply(settings)
        producer = AIOKafkaProducer(
            bootstrap_servers=settings.kafka.bootstrap, transactional_id=f"{topic_prefix}t"
        )
        await producer.start()
        kept: list[Row] = []

        async def transaction(rows: list[Row], commit: bool) -> None:
            await producer.begin_transaction()
            for key, value in rows:
                await producer.send_and_wait(topic_of(settings), value, key, partition=1)
            await (producer.commit_transaction() if commit else producer.abort_transaction())
            kept.extend(rows if commit else [])

        try:
            for n in range(6):
                await transaction(some(5, n), commit=n % 2 == 0)
                between = some(3, 100 + n)
                await send(settings, between)
                kept.extend(between)
            await transaction(some(5, 50), commit=False)
            assert await same_for_both(settings) == kept  # which ends in an aborted one
            await producer.begin_transaction()
            await producer.send_and_wait(topic_of(settings), b"open", b"k", partition=1)
            with pytest.raises(Retry, match="stopped answering"):
                await by_the_reader(settings)  # its end is not decided yet
            await producer.abort_transaction()
            assert await same_for_both(settings) == kept
        finally:
            await close(producer)

    asyncio.run(run())


@pytest.mark.parametrize("fault", ["leader", "errors", "down"])
def test_faults_in_the_middle_are_waited_for(
    mock_cluster: MockCluster, topic_prefix: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each record once and in order, whatever happens after the first chunk."""
    monkeypatch.setattr(batches, "FETCH_BYTES", 20_000)
    settings = settings_for(mock_cluster.bootstrap, topic_prefix, ("clicks",))
    mock_cluster.create_topic(topic_of(settings), 2)
    mock_cluster.set_leader(topic_of(settings), 1, 1)
    wanted = some(300, 4)
    read: list[Row] = []

    def break_it() -> None:
        if fault == "leader":
            mock_cluster.set_leader(topic_of(settings), 1, 2)
        elif fault == "errors":
            mock_cluster.push_errors(FETCH, [NOT_LEADER, REQUEST_TIMED_OUT])
        else:
            mock_cluster.broker_down(1)
            asyncio.get_running_loop().call_later(1.0, mock_cluster.broker_up, 1)

    def apply(keys: Sequence[bytes], values: Sequence[bytes | None]) -> None:
        if not read:
            break_it()
        read.extend(zip(keys, values, strict=True))

    async def run() -> None:
        await send(settings, wanted)
        reader = ChangelogReader(settings.kafka, TASTE_CHANGELOG)
        try:
            await reader.replay(1, apply)
        finally:
            await reader.stop()

    asyncio.run(run())
    assert read == wanted


def test_a_broker_that_is_not_there_is_a_retry(topic_prefix: str) -> None:
    settings = settings_for("127.0.0.1:1", topic_prefix, ("clicks",))
    with pytest.raises((KafkaError, OSError, Retry)):
        asyncio.run(by_the_reader(settings))
