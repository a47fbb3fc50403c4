"""Who owns what when a worker stands still, dies or restarts: nothing is lost, and nobody waits for long."""

import asyncio
import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from bad_records import NOW_MS, click
from processes import WorkerProcess
from running import committed, produce, read_all, settings_for
from streams.sections.kafka import Kafka
from streams.settings import Settings
from streams.topology.admin import apply
from taste_oracle import replayed

LANES = [
    pytest.param("embedded", marks=pytest.mark.embedded),
    pytest.param("kafka", marks=pytest.mark.kafka),
]
OWNED = 'headrace_partitions_owned{agent="clicks"}'
LISTS = "headrace_recommendations_total"
REBALANCES = 'headrace_rebalances_total{agent="clicks"}'
USERS = 80
FAILOVER_S = 15.0  # promised for default settings


class Feed:
    """Clicks of all readers over the four partitions."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = f"{settings.kafka.topic_prefix}clicks"
        self.sent = 0

    def more(self, count: int = 300) -> None:
        asyncio.run(self.send(count))

    async def send(self, count: int) -> None:
        portion: list[tuple[bytes | None, bytes | None]] = []
        for n in range(self.sent, self.sent + count):
            user = f"u{n * 7 % USERS}"
            portion.append((user.encode(), click(n, user=user, item=f"i{n * n % 90}", at=NOW_MS + n * 40)))
        await produce(self._settings.kafka.bootstrap, self._topic, portion)
        self.sent += count


async def check(settings: Settings, sent: int, within_s: float = 60.0) -> None:
    """Everything is committed; the newest rows equal a plain replay; the last list on the topic is the last click's."""
    bootstrap, prefix = settings.kafka.bootstrap, settings.kafka.topic_prefix
    log = await read_all(bootstrap, f"{prefix}clicks", sent)
    ends = {p: max((r.offset + 1 for r in log if r.partition == p), default=None) for p in range(4)}
    deadline_s = time.monotonic() + within_s
    while (found := await committed(bootstrap, f"{prefix}group.clicks", f"{prefix}clicks", 4)) != ends:
        assert time.monotonic() < deadline_s, f"committed {found} of {ends}"
        await asyncio.sleep(0.2)
    rows = await read_all(bootstrap, f"{prefix}taste-changelog")
    assert {(row.partition, row.key.decode()): row.value for row in rows} == replayed(settings, log)
    lists = await read_all(bootstrap, f"{prefix}recommendations")
    last = {r.key.decode(): json.loads(r.value)["because"]["offset"] for r in lists}
    assert last == {json.loads(r.value)["user"]: r.offset for r in log}


@pytest.mark.parametrize("lane", LANES)
def test_a_worker_that_stood_still_changes_nothing_of_its_successor(
    lane: str, request: pytest.FixtureRequest, topic_prefix: str, tmp_path: Path
) -> None:
    """SIGSTOP in the middle of work for longer than the session, SIGCONT after another has taken over."""
    settings = settings_for(request.getfixturevalue(f"{lane}_broker").bootstrap, topic_prefix, ("clicks",))
    asyncio.run(apply(settings))
    feed = Feed(settings)
    with (
        WorkerProcess(settings, tmp_path / "first.log") as first,
        WorkerProcess(settings, tmp_path / "second.log") as second,
    ):
        first.wait_until(lambda: first.metric(OWNED) == 2 and second.metric(OWNED) == 2, 90, "they share")
        for _ in range(3):
            feed.more()
        first.signal(signal.SIGSTOP)
        feed.more()
        within_s = settings.kafka.session_timeout_s + 45
        second.wait_until(lambda: second.metric(OWNED) == 4 and second.ready, within_s, "takeover")
        feed.more()
        first.signal(signal.SIGCONT)
        first.wait_until(lambda: first.metric(OWNED) == 2 and first.ready, within_s, "it is back")
        feed.more()
        asyncio.run(check(settings, feed.sent))
        assert "stood still" in first.said
        for worker in (first, second):
            assert "Traceback" not in worker.said, worker.said


def test_after_a_kill_with_default_settings_the_survivor_publishes_soon(
    kafka_broker: Any, topic_prefix: str, tmp_path: Path, record_property: Any
) -> None:
    default = Kafka()
    settings = settings_for(
        kafka_broker.bootstrap,
        topic_prefix,
        ("clicks",),
        kafka={
            "session_timeout_s": default.session_timeout_s,
            "heartbeat_interval_s": default.heartbeat_interval_s,
            "rebalance_timeout_s": default.rebalance_timeout_s,
            "request_timeout_s": default.request_timeout_s,
        },
    )
    asyncio.run(apply(settings))
    feed = Feed(settings)
    with (
        WorkerProcess(settings, tmp_path / "first.log") as first,
        WorkerProcess(settings, tmp_path / "second.log") as second,
    ):
        first.wait_until(lambda: first.metric(OWNED) == 2 and second.metric(OWNED) == 2, 90, "they share")
        feed.more()
        first.signal(signal.SIGKILL)
        killed_s = time.monotonic()
        asyncio.run(_every_reader_has_a_list(settings, feed, killed_s + FAILOVER_S))
        record_property("failover_s", round(time.monotonic() - killed_s, 1))
        asyncio.run(check(settings, feed.sent))
        assert first.ended(5) == -signal.SIGKILL


async def _every_reader_has_a_list(settings: Settings, feed: Feed, deadline_s: float) -> None:
    """Clicks of every reader, sent after the kill, have their lists."""
    first = feed.sent
    await feed.send(USERS)
    topic = f"{settings.kafka.topic_prefix}recommendations"
    wanted = {f"u{n * 7 % USERS}" for n in range(first, feed.sent)}
    while True:
        lists = await read_all(settings.kafka.bootstrap, topic)
        at = [json.loads(r.value) for r in lists]
        if wanted <= {made["user"] for made in at if made["at"] >= NOW_MS + first * 40}:
            return
        assert time.monotonic() < deadline_s, f"the lost readers have no list after {FAILOVER_S} s"
        await asyncio.sleep(0.3)


def test_a_static_member_restarts_without_a_rebalance(
    kafka_broker: Any, topic_prefix: str, tmp_path: Path
) -> None:
    """`kafka.instance_id`: SIGTERM sends no LeaveGroup, so the others are left in peace, and the partitions lie still
    until the member is back; it must be back within the session."""
    settings = settings_for(
        kafka_broker.bootstrap,
        topic_prefix,
        ("clicks",),
        kafka={"session_timeout_s": 45.0, "heartbeat_interval_s": 1.0},
    )
    asyncio.run(apply(settings))
    feed = Feed(settings)
    names = [(f"--set=kafka.instance_id={name}",) for name in ("one", "two")]
    with WorkerProcess(settings, tmp_path / "two.log", names[1]) as two:
        with WorkerProcess(settings, tmp_path / "one.log", names[0]) as one:
            one.wait_until(lambda: one.metric(OWNED) == 2 and two.metric(OWNED) == 2, 90, "they share")
            feed.more()
            before = two.metric(REBALANCES)
            one.signal(signal.SIGTERM)
            assert one.ended(settings.worker.grace_s) == 0, one.said
        feed.more()
        with WorkerProcess(settings, tmp_path / "one-again.log", names[0]) as again:
            again.wait_until(lambda: again.metric(OWNED) == 2 and again.ready, 45, "it is back")
            feed.more()
            asyncio.run(check(settings, feed.sent))
            assert two.metric(REBALANCES) == before
            assert "Traceback" not in again.said, again.said


@pytest.mark.parametrize("lane", LANES)
def test_a_late_row_of_a_zombie_is_noticed_and_the_better_one_written_again(
    lane: str, request: pytest.FixtureRequest, topic_prefix: str, tmp_path: Path
) -> None:
    """An older state of a reader who does not click again lands in the changelog, as from a network that held it up."""
    bootstrap = request.getfixturevalue(f"{lane}_broker").bootstrap
    settings = settings_for(bootstrap, topic_prefix, ("clicks",))
    asyncio.run(apply(settings))
    changelog, noticed = f"{topic_prefix}taste-changelog", 'headrace_foreign_rows_total{agent="clicks"}'

    def quiet_clicks(n: int) -> None:
        value = click(n, user="quiet", item=f"i{n}", at=NOW_MS + n)
        asyncio.run(produce(bootstrap, f"{topic_prefix}clicks", [(b"quiet", value)]))

    def rows_of_quiet() -> list[Any]:
        return [row for row in asyncio.run(read_all(bootstrap, changelog)) if row.key == b"quiet"]

    feed = Feed(settings)
    with WorkerProcess(settings, tmp_path / "worker.log") as worker:
        worker.wait_until(lambda: worker.ready, 90, "it is ready")
        quiet_clicks(100_001)
        worker.wait_until(lambda: len(rows_of_quiet()) == 1, 45, "the first row")
        quiet_clicks(100_002)
        worker.wait_until(lambda: len(rows_of_quiet()) == 2, 45, "the second row")
        older, newer = rows_of_quiet()
        feed.more()  # the owner has written to every partition since it took them
        worker.wait_until(lambda: worker.metric(LISTS) > 50, 45, "all have lists")

        async def zombie() -> None:
            producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
            await producer.start()
            await producer.send_and_wait(changelog, older.value, key=b"quiet", partition=older.partition)
            await producer.stop()

        asyncio.run(zombie())
        feed.more()
        worker.wait_until(lambda: worker.metric(noticed) == 1, 45, "it is noticed")
        worker.wait_until(lambda: rows_of_quiet()[-1].value == newer.value, 45, "it is mended")
        feed.more()
        asyncio.run(check(settings, feed.sent + 2))
