"""EmbeddedBroker and KafkaBroker against the real programs: start, stop, a port in use, restart, kill."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from streams.demo.broker import EmbeddedBroker
from streams.demo.kafka import KafkaBroker
from streams.demo.server import answers
from streams.errors import EnvironmentProblem
from streams.settings import kafka_lib, load


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.mark.embedded
def test_the_embedded_broker_answers_until_it_is_stopped() -> None:
    with EmbeddedBroker(binary=load().demo.broker_binary) as broker:
        assert answers(broker.port)
        assert broker.bootstrap == f"127.0.0.1:{broker.port}"
    assert not answers(broker.port)
    assert broker.pid is None


@pytest.mark.embedded
def test_the_embedded_broker_takes_the_port_it_is_given() -> None:
    with EmbeddedBroker(binary=load().demo.broker_binary) as first:
        port = first.port
    with EmbeddedBroker(port=port, binary=load().demo.broker_binary) as second:
        assert second.port == port and answers(port)
        with pytest.raises(RuntimeError, match="running already"):
            second.start()


@pytest.mark.embedded
def test_a_port_in_use_is_one_clear_line(taken_port: int) -> None:
    with pytest.raises(EnvironmentProblem, match=f"port {taken_port} on 127.0.0.1 cannot be used"):
        EmbeddedBroker(port=taken_port, binary=load().demo.broker_binary).start()


@pytest.mark.embedded
def test_a_wrong_storage_engine_ends_the_start_with_the_brokers_own_words() -> None:
    with pytest.raises(EnvironmentProblem, match=r"(?s)ended at its start.*nosuch"):
        EmbeddedBroker(binary=load().demo.broker_binary, storage="nosuch://tansu/").start()


@pytest.mark.kafka
def test_kafka_keeps_its_records_over_restart_and_kill() -> None:
    lib = kafka_lib()
    assert lib is not None
    # A short broker session: after a kill the controller waits until it has ended.
    short = {"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500"}
    with KafkaBroker(lib, heap_mb=256, properties=short) as broker:
        port, data = broker.port, broker.data
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        admin.create_topics([NewTopic("kept", 1, 1)])["kept"].result(15)
        _produce(broker.bootstrap, b"before the restart")
        broker.restart()
        _produce(broker.bootstrap, b"before the kill")
        broker.kill()
        assert broker.pid is None and not answers(port)
        broker.start()
        assert broker.port == port
        assert _consume(broker.bootstrap, 2) == [b"before the restart", b"before the kill"]
    assert data is not None and not data.exists()


@pytest.mark.kafka
def test_kafka_on_a_port_in_use_is_one_clear_line(taken_port: int) -> None:
    lib = kafka_lib()
    assert lib is not None
    broker = KafkaBroker(lib, port=taken_port)
    with pytest.raises(EnvironmentProblem, match=f"port {taken_port} on 127.0.0.1 cannot be used"):
        broker.start()


@pytest.mark.kafka
def test_a_wrong_property_ends_the_start_of_kafka(tmp_path: Path) -> None:
    lib = kafka_lib()
    assert lib is not None
    broker = KafkaBroker(lib, data=tmp_path / "node", properties={"process.roles": "nonsense"})
    with pytest.raises(EnvironmentProblem, match="nonsense"):
        broker.start()
    assert broker.pid is None


def _produce(bootstrap: str, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce("kept", value, partition=0)
    assert producer.flush(20) == 0


def _consume(bootstrap: str, count: int) -> list[bytes]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "g", "auto.offset.reset": "earliest"})
    consumer.subscribe(["kept"])
    got: list[bytes] = []
    try:
        while len(got) < count:
            message = consumer.poll(20)
            assert message is not None and message.error() is None
            got.append(message.value())
    finally:
        consumer.close()
    return got
