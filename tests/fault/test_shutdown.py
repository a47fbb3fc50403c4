"""SIGTERM always ends a worker within its grace: busy, without a broker, and before there ever was one."""

import asyncio
import json
import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer

from bad_records import NOW_MS, click
from mock_cluster import MockCluster
from models.taste.actions import CODES
from models.taste.index import ItemIndex
from models.taste.readers.rows import HALF_LIVES_S
from models.taste.readers.users import UserRows
from processes import WorkerProcess
from running import produce, read_all, settings_for
from streams.demo.broker import EmbeddedBroker
from streams.demo.server import free_ports
from streams.settings import Settings, load
from streams.topology.admin import apply
from streams.topology.topics import TOPOLOGY
from streams.transport.client import close


def quick(bootstrap: str, prefix: str) -> Settings:
    ends = {"agents": ("clicks",), "drain_s": 3.0, "grace_s": 10.0}
    return settings_for(bootstrap, prefix, ("clicks",), worker=ends, kafka={"request_timeout_s": 5.0})


def test_without_a_broker_it_waits_says_so_once_and_ends_at_once(tmp_path: Path) -> None:
    port = free_ports(1)[0]
    with WorkerProcess(quick(f"127.0.0.1:{port}", "none-"), tmp_path / "log") as worker:
        worker.wait_until(lambda: "no broker at" in worker.said, 90, "it says that it waits")
        time.sleep(6)
        assert worker.get("/healthz")[0] == 200 and worker.get("/readyz")[0] == 503
        lines = worker.said.splitlines()
        assert sum("no broker at" in line for line in lines) == 1, worker.said
        assert len(lines) <= 8, worker.said  # aiokafka's own lines are limited too
        started_s = time.monotonic()
        worker.signal(signal.SIGTERM)
        assert worker.ended(5) == 0, worker.said
        assert time.monotonic() - started_s < 3
        assert "Traceback" not in worker.said


@pytest.mark.embedded
def test_a_broker_that_comes_later_without_topics_is_a_mistake_to_mend(tmp_path: Path) -> None:
    port = free_ports(1)[0]
    with WorkerProcess(quick(f"127.0.0.1:{port}", "later-"), tmp_path / "log") as worker:
        worker.wait_until(lambda: "no broker at" in worker.said, 90, "it says that it waits")
        with EmbeddedBroker(port=port, binary=load().demo.broker_binary):
            assert worker.ended(60) == 3, worker.said
        assert "headrace topics apply" in worker.said and "Traceback" not in worker.said


@pytest.mark.mock
def test_brokers_that_come_later_are_found(mock_cluster: MockCluster, tmp_path: Path) -> None:
    settings = settings_for(mock_cluster.bootstrap, "later-", ("clicks",), kafka={"session_timeout_s": 6.0})
    for topic in TOPOLOGY:
        mock_cluster.create_topic(f"later-{topic.name}", 4)
    for broker in (1, 2, 3):
        mock_cluster.broker_down(broker)
    with WorkerProcess(settings, tmp_path / "log") as worker:
        worker.wait_until(lambda: "no broker at" in worker.said, 90, "it says that it waits")
        for broker in (1, 2, 3):
            mock_cluster.broker_up(broker)
        worker.wait_until(lambda: worker.ready, 90, "ready")
        assert "broker found at" in worker.said
        worker.signal(signal.SIGTERM)
        assert worker.ended(10) == 0, worker.said


@pytest.mark.parametrize(
    "lane",
    [pytest.param("embedded", marks=pytest.mark.embedded), pytest.param("kafka", marks=pytest.mark.kafka)],
)
def test_while_busy(lane: str, request: pytest.FixtureRequest, topic_prefix: str, tmp_path: Path) -> None:
    bootstrap = request.getfixturevalue(f"{lane}_broker").bootstrap
    settings = quick(bootstrap, topic_prefix)
    asyncio.run(apply(settings))
    records: list[tuple[bytes | None, bytes | None]] = [
        (b"%d" % (n % 500), click(n, user=f"u{n % 500}")) for n in range(20_000)
    ]
    with WorkerProcess(settings, tmp_path / "log") as worker:
        asyncio.run(produce(bootstrap, f"{topic_prefix}clicks", records))
        worker.wait_until(
            lambda: worker.metric('headrace_applied_total{agent="clicks"}') > 0, 90, "it is at work"
        )
        started_s = time.monotonic()
        worker.signal(signal.SIGTERM)
        assert worker.ended(12) == 0, worker.said
        assert time.monotonic() - started_s < 10
        assert "Traceback" not in worker.said, worker.said


@pytest.mark.embedded
def test_while_the_broker_is_gone(tmp_path: Path) -> None:
    with EmbeddedBroker(binary=load().demo.broker_binary) as broker:
        settings = quick(broker.bootstrap, "gone-")
        asyncio.run(apply(settings))
        records: list[tuple[bytes | None, bytes | None]] = [
            (b"%d" % (n % 500), click(n, user=f"u{n % 500}")) for n in range(20_000)
        ]
        with WorkerProcess(settings, tmp_path / "log") as worker:
            asyncio.run(produce(broker.bootstrap, "gone-clicks", records))
            worker.wait_until(
                lambda: worker.metric('headrace_applied_total{agent="clicks"}') > 0, 90, "it is at work"
            )
            broker.kill()
            time.sleep(6)
            said = worker.said.splitlines()
            assert len(said) < 40, worker.said
            started_s = time.monotonic()
            worker.signal(signal.SIGTERM)
            code = worker.ended(12)
            assert time.monotonic() - started_s < 10.5, worker.said
            assert code == 0, worker.said
            assert "Traceback" not in worker.said, worker.said


@pytest.mark.embedded
def test_while_state_is_read_back(embedded_broker: EmbeddedBroker, topic_prefix: str, tmp_path: Path) -> None:
    """100,000 readers on four partitions, of which one at most was read when it is told to stop."""
    settings = quick(embedded_broker.bootstrap, topic_prefix)
    bootstrap = embedded_broker.bootstrap
    asyncio.run(apply(settings))
    asyncio.run(fill(bootstrap, f"{topic_prefix}taste-changelog", 100_000))
    asyncio.run(produce(bootstrap, f"{topic_prefix}clicks", [(b"1", click(1, user="u1"))]))
    with WorkerProcess(settings, tmp_path / "log") as worker:
        worker.wait_until(lambda: "owns partitions" in worker.said, 90, "it has partitions", every_s=0.002)
        assert not worker.ready
        started_s = time.monotonic()
        worker.signal(signal.SIGTERM)
        assert worker.ended(12) == 0, worker.said
        assert time.monotonic() - started_s < 10
        assert "Traceback" not in worker.said, worker.said


async def fill(bootstrap: str, topic: str, count: int) -> None:
    """A row of that many readers, as a worker writes them."""
    items = ItemIndex()
    rows = UserRows(items, HALF_LIVES_S, 64)
    one = np.ones(1, np.int64)
    kinds = np.array([CODES["click"]], np.int8)
    rows.fold(["u"], items.lookup(["i"]), kinds, np.ones(1, np.float32), one, 0 * one)
    (value,) = rows.encode(rows.rows_of(["u"]))
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", max_batch_size=900_000)
    await producer.start()
    try:
        for partition in range(4):
            n, end = partition * count // 4, (partition + 1) * count // 4
            while n < end:
                batch = producer.create_batch()
                while n < end and batch.append(key=b"u%d" % n, value=value, timestamp=None) is not None:
                    n += 1
                await (await producer.send_batch(batch, topic, partition=partition))
    finally:
        await close(producer)


@pytest.mark.models
def test_while_models_infer(embedded_broker: EmbeddedBroker, topic_prefix: str, tmp_path: Path) -> None:
    """The batch that runs ends, its labels are written and committed; the rest is left to the next, labelled once."""
    ends = {"agents": ("uploads",), "drain_s": 3.0, "grace_s": 20.0}
    one_task = {"uploads": ("sentiment",)}
    settings = settings_for(
        embedded_broker.bootstrap, topic_prefix, ("uploads",), worker=ends, media=one_task
    )
    bootstrap, prefix = embedded_broker.bootstrap, topic_prefix
    asyncio.run(apply(settings))
    texts: list[tuple[bytes | None, bytes | None]] = []
    words = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    for n in range(900):
        # Of one length: batches of a partition end in their order, so that none has left behind one that is cut off.
        which = f"{words[n // 100]} {words[n // 10 % 10]} {words[n % 10]}"
        event = {
            "id": f"m{n}",
            "asset": f"a{n}",
            "at": NOW_MS,
            "media_type": "text/plain",
            "text": f"fine {which} " + "and long enough to take its time " * 20,
        }
        texts.append((b"a%d" % n, json.dumps(event).encode()))
    labelled = 'headrace_applied_total{agent="uploads"}'
    asyncio.run(produce(bootstrap, f"{prefix}uploads", texts))
    with WorkerProcess(settings, tmp_path / "first") as worker:
        worker.wait_until(lambda: worker.metric(labelled) > 0, 120, "it labels")
        started_s = time.monotonic()
        worker.signal(signal.SIGTERM)
        assert worker.ended(settings.worker.grace_s + 2) == 0, worker.said
        assert time.monotonic() - started_s < settings.worker.grace_s
        assert "Traceback" not in worker.said, worker.said
    said = worker.said
    before = asyncio.run(read_all(bootstrap, f"{prefix}labels"))
    assert 0 < len(before) < 900
    with WorkerProcess(settings, tmp_path / "second") as worker:
        after = asyncio.run(read_all(bootstrap, f"{prefix}labels", 900, within_s=240))
        worker.signal(signal.SIGTERM)
        assert worker.ended(settings.worker.grace_s + 2) == 0, worker.said
    said += worker.said
    labels = [json.loads(record.value) for record in after]
    assert len({(label["id"], label["asset"]) for label in labels}) == 900, (
        "a label that comes again is the same"
    )
    often = Counter(label["asset"] for label in labels)
    # A machine that stands still for seconds makes a worker start over, which it says; at least once repeats then.
    started_over = any(why in said for why in ("starting over", "not committed", "not finished in time"))
    assert len(often) == 900 and (max(often.values()) == 1 or started_over), said


@pytest.mark.models
def test_while_models_are_loading(embedded_broker: EmbeddedBroker, topic_prefix: str, tmp_path: Path) -> None:
    settings = settings_for(embedded_broker.bootstrap, topic_prefix, ("uploads",))
    asyncio.run(apply(settings))
    with WorkerProcess(settings, tmp_path / "log") as worker:
        worker.wait_until(lambda: "metrics on" in worker.said, 90, "it has started")
        time.sleep(0.3)
        assert "uploads: ready" not in worker.said
        worker.signal(signal.SIGTERM)
        assert worker.ended(settings.worker.grace_s) == 0, worker.said
        assert "Traceback" not in worker.said


@pytest.mark.embedded
def test_an_item_table_that_cannot_be_read_ends_the_worker(
    embedded_broker: EmbeddedBroker, topic_prefix: str, tmp_path: Path
) -> None:
    settings = quick(embedded_broker.bootstrap, topic_prefix)
    asyncio.run(apply(settings))
    asyncio.run(
        produce(embedded_broker.bootstrap, f"{topic_prefix}item-table", [(b"item", b"\x63not a row")])
    )
    with WorkerProcess(settings, tmp_path / "log") as worker:
        assert worker.ended(90) not in (0, None), worker.said
        assert "item-table" in worker.said and "Traceback" not in worker.said
