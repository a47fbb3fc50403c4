"""The broker goes away under a running worker and comes back: nothing is lost, nothing is counted twice."""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator

import pytest

from mock_cluster import NOT_LEADER, PRODUCE, REQUEST_TIMED_OUT, MockCluster
from running import committed, produce, read_all, running, settings_for, until
from streams.agents import registry
from streams.clock import SystemClock
from streams.demo.kafka import KafkaBroker
from streams.observe.logs import RateLimit
from streams.settings import Settings, kafka_lib
from streams.topology.topics import TOPOLOGY
from streams.worker.app import Worker

SHORT = {
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "group.min.session.timeout.ms": "500",
}


@pytest.fixture(autouse=True)
def counting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.AGENTS, "counting", "counting:CountingAgent")


class Lines(logging.Handler):
    """Counts what passes the product's rate limit."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.addFilter(RateLimit(SystemClock()))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.name}: {record.getMessage()}")


@pytest.fixture
def lines() -> Iterator[list[str]]:
    handler = Lines()
    logging.getLogger().addHandler(handler)
    yield handler.lines
    logging.getLogger().removeHandler(handler)


def records(n: int, start: int = 0) -> list[tuple[bytes | None, bytes | None]]:
    return [(f"k{i * i % 50}".encode(), str(i).encode()) for i in range(start, start + n)]


def counts(worker: Worker) -> dict[str, int]:
    partitions = worker._lines[0].agent.partitions
    return {key: row[0] for rows in list(partitions.values()) for key, row in rows.items()}


async def all_counted(worker: Worker, settings: Settings, n: int, within_s: float = 30.0) -> None:
    """Counts are exact in memory, in the changelog, and everything is committed."""
    wanted = dict(Counter(key.decode() for key, _ in records(n) if key))
    await until(lambda: sum(counts(worker).values()) >= n, within_s, "all counted")
    assert counts(worker) == wanted
    bootstrap, prefix = settings.kafka.bootstrap, settings.kafka.topic_prefix
    ends = Counter(r.partition for r in await read_all(bootstrap, f"{prefix}clicks", n))
    for _ in range(100):
        found = await committed(bootstrap, f"{prefix}group.counting", f"{prefix}clicks", 4)
        if all((found[p] or 0) == ends[p] for p in range(4)):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"committed {found} of {dict(ends)}")


@pytest.mark.kafka
def test_kafka_restarts_under_the_worker(topic_prefix: str, lines: list[str]) -> None:
    lib = kafka_lib()
    assert lib is not None
    with KafkaBroker(lib, heap_mb=256, properties=SHORT) as broker:
        settings = settings_for(broker.bootstrap, topic_prefix, ("counting",))

        async def main() -> None:
            async with running(settings) as worker:
                topic = f"{topic_prefix}clicks"
                await produce(broker.bootstrap, topic, records(1000))
                await until(lambda: sum(counts(worker).values()) == 1000, 20, "before")
                await produce(
                    broker.bootstrap, topic, records(500, 1000)
                )  # some are on their way when it goes
                await asyncio.to_thread(broker.restart)
                await produce(broker.bootstrap, topic, records(500, 1500))
                await all_counted(worker, settings, 2000)

        asyncio.run(main())
        assert len(lines) < 40, "\n".join(lines)


@pytest.mark.mock
class TestMockCluster:
    """Three brokers, one of which leads and coordinates everything and then goes away."""

    def _settings(self, cluster: MockCluster, prefix: str) -> Settings:
        settings = settings_for(
            cluster.bootstrap,
            prefix,
            ("counting",),
            kafka={"session_timeout_s": 6.0, "request_timeout_s": 2.0},
        )
        for topic in TOPOLOGY:
            cluster.create_topic(f"{prefix}{topic.name}", 4)
        return settings

    def test_brokers_go_down_and_come_up(
        self, mock_cluster: MockCluster, topic_prefix: str, lines: list[str]
    ) -> None:
        settings = self._settings(mock_cluster, topic_prefix)

        async def main() -> None:
            async with running(settings, create=False) as worker:
                topic = f"{topic_prefix}clicks"
                await produce(mock_cluster.bootstrap, topic, records(500))
                await until(lambda: sum(counts(worker).values()) == 500, 20, "before")
                await produce(mock_cluster.bootstrap, topic, records(500, 500))
                for broker in (1, 2, 3):
                    mock_cluster.broker_down(broker)
                await asyncio.sleep(5.0)
                for broker in (1, 2, 3):
                    mock_cluster.broker_up(broker)
                await produce(mock_cluster.bootstrap, topic, records(500, 1000))
                await all_counted(worker, settings, 1500)

        asyncio.run(main())
        assert len(lines) < 60, "\n".join(lines)

    def test_outputs_that_are_refused_are_made_again(
        self, mock_cluster: MockCluster, topic_prefix: str
    ) -> None:
        """Errors that the client repeats by itself, and errors that fail the group: the counts stay exact."""
        settings = self._settings(mock_cluster, topic_prefix)

        async def main() -> None:
            await produce(mock_cluster.bootstrap, f"{topic_prefix}clicks", records(1000))
            # 42: an invalid request, which no client repeats
            mock_cluster.push_errors(
                PRODUCE, [NOT_LEADER, 42, REQUEST_TIMED_OUT, 42, 42, 0, 0, 0, 42, 0, 0, 42]
            )
            async with running(settings, create=False) as worker:
                await all_counted(worker, settings, 1000)
                assert worker.metrics.rewinds.labels("counting")._value.get() > 0
                assert worker.metrics.group_failures.labels("counting")._value.get() > 0

        asyncio.run(main())
