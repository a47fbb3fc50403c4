"""Brokers for tests: a fixture for each lane, and `any_broker`, which runs a test on all of them."""

import os

# Before NumPy or torch is imported: a broker and a JVM share the cores with the tests.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import hypothesis
import pytest

from lanes import LANES, Lanes
from mock_cluster import MockCluster
from streams.demo.broker import EmbeddedBroker
from streams.demo.kafka import KafkaBroker
from streams.settings import kafka_lib, load

TEST_PROPERTIES = {
    "group.min.session.timeout.ms": "500",  # tests lose a member in less than Kafka's 6 s
    "log.cleaner.backoff.ms": "200",  # compaction within a test, not within 15 s
    "log.retention.check.interval.ms": "500",
}


# How long an example takes, or takes to draw, says how busy the machine is, and nothing about the code. The same code
# is judged by the same examples; `--hypothesis-profile explore` draws others each time.
BUSY = [hypothesis.HealthCheck.too_slow]
hypothesis.settings.register_profile("headrace", deadline=None, suppress_health_check=BUSY, derandomize=True)
hypothesis.settings.register_profile("explore", deadline=None, suppress_health_check=BUSY, print_blob=True)
hypothesis.settings.load_profile("headrace")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--lane",
        action="append",
        choices=LANES,
        help="run only this lane, and fail when it is missing; repeatable",
    )
    parser.addoption("--sim-seeds", type=int, default=600, help="simulated runs of each delivery")
    parser.addoption("--sim-seed", type=int, help="run this seed alone, with a full trace")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Lanes(set(config.getoption("--lane") or ())), "lanes")


@pytest.fixture
def topic_prefix() -> str:
    """Brokers live for the session: a prefix of its own keeps a test's topics and groups its own."""
    return f"t{uuid.uuid4().hex[:10]}-"


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[EmbeddedBroker]:
    """Tansu, memory engine; a test that stops a broker starts its own."""
    with EmbeddedBroker(binary=load().demo.broker_binary) as broker:
        yield broker


@pytest.fixture(scope="session")
def kafka_broker() -> Iterator[KafkaBroker]:
    """A real Apache Kafka, one JVM for the session; a test that stops a broker starts its own."""
    lib = kafka_lib()
    assert lib is not None  # else the lane would have been skipped
    with KafkaBroker(lib, properties=TEST_PROPERTIES) as broker:
        yield broker


@pytest.fixture
def mock_cluster() -> Iterator[MockCluster]:
    """Three brokers in this process, fresh for each test, since faults stay."""
    with MockCluster(brokers=3) as cluster:
        yield cluster


@dataclass(frozen=True)
class Broker:
    """What a test that runs on every lane may rely on."""

    lane: str
    bootstrap: str
    create_topic: Callable[[str, int], None]
    """Blocks until the topic `(name, partitions)` exists."""


@pytest.fixture(
    params=[pytest.param(lane, marks=getattr(pytest.mark, lane)) for lane in LANES if lane != "pure"]
)
def any_broker(request: pytest.FixtureRequest) -> Broker:
    """The same test on each lane's broker."""
    lane: str = request.param
    if lane == "mock":
        cluster: MockCluster = request.getfixturevalue("mock_cluster")
        return Broker(lane, cluster.bootstrap, cluster.create_topic)
    started: EmbeddedBroker | KafkaBroker = request.getfixturevalue(f"{lane}_broker")

    from confluent_kafka.admin import AdminClient, NewTopic

    def create_topic(name: str, partitions: int) -> None:
        admin = AdminClient({"bootstrap.servers": started.bootstrap})
        for created in admin.create_topics([NewTopic(name, partitions, 1)], operation_timeout=10).values():
            created.result(timeout=15)

    return Broker(lane, started.bootstrap, create_topic)
