"""The mock cluster's faults do what they say, seen by aiokafka."""

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import TopicAuthorizationFailedError

from mock_cluster import NOT_LEADER, PRODUCE, TOPIC_AUTHORIZATION_FAILED, MockCluster

WITHIN_S = 30.0


def test_an_injected_produce_error_is_retried_and_the_record_arrives_once(mock_cluster: MockCluster) -> None:
    mock_cluster.create_topic("faults")
    mock_cluster.push_errors(PRODUCE, [NOT_LEADER, NOT_LEADER])

    assert asyncio.run(asyncio.wait_for(_round_trip(mock_cluster, down=None), WITHIN_S)) == [b"one", b"two"]


def test_a_permanent_produce_error_reaches_the_sender_once(mock_cluster: MockCluster) -> None:
    mock_cluster.create_topic("faults")
    mock_cluster.push_errors(PRODUCE, [TOPIC_AUTHORIZATION_FAILED])

    async def run() -> int:
        async with AIOKafkaProducer(bootstrap_servers=mock_cluster.bootstrap) as producer:
            with pytest.raises(TopicAuthorizationFailedError):
                await producer.send_and_wait("faults", b"refused", partition=0)
            return int((await producer.send_and_wait("faults", b"taken", partition=0)).offset)

    assert asyncio.run(asyncio.wait_for(run(), WITHIN_S)) == 0  # the refused one took no offset


def test_a_broker_that_comes_back_gets_what_waited_for_it(mock_cluster: MockCluster) -> None:
    mock_cluster.create_topic("faults")
    mock_cluster.set_leader("faults", 0, 2)

    assert asyncio.run(asyncio.wait_for(_round_trip(mock_cluster, down=2), WITHIN_S)) == [b"one", b"two"]


def test_a_record_for_a_broker_that_stays_down_is_not_acknowledged(mock_cluster: MockCluster) -> None:
    mock_cluster.create_topic("faults")
    mock_cluster.set_leader("faults", 0, 2)

    async def run() -> bool:
        async with AIOKafkaProducer(bootstrap_servers=mock_cluster.bootstrap) as producer:
            await producer.send_and_wait("faults", b"one", partition=0)
            mock_cluster.broker_down(2)
            sending = await producer.send("faults", b"two", partition=0)
            _, pending = await asyncio.wait({sending}, timeout=1.0)
            mock_cluster.broker_up(2)
            await sending
            return bool(pending)

    assert asyncio.run(asyncio.wait_for(run(), WITHIN_S))


async def _round_trip(cluster: MockCluster, down: int | None) -> list[bytes]:
    async with AIOKafkaProducer(bootstrap_servers=cluster.bootstrap, retry_backoff_ms=50) as producer:
        await producer.send_and_wait("faults", b"one", partition=0)
        if down is not None:
            cluster.broker_down(down)
        sending = await producer.send("faults", b"two", partition=0)
        if down is not None:
            await asyncio.sleep(0.3)
            assert not sending.done()
            cluster.broker_up(down)
        await sending
    consumer = AIOKafkaConsumer(
        "faults", bootstrap_servers=cluster.bootstrap, auto_offset_reset="earliest", group_id=None
    )
    async with consumer:
        return [(await consumer.getone()).value for _ in range(2)]
