"""Two worker processes in one group: both work; one stops or is killed; the other takes over with their state."""

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bad_records import NOW_MS, click
from processes import WorkerProcess
from running import committed, produce, read_all, settings_for
from streams.settings import Settings
from streams.topology.admin import apply
from taste_oracle import replayed

LANES = [
    pytest.param("embedded", marks=pytest.mark.embedded),
    pytest.param("kafka", marks=pytest.mark.kafka),
]
OWNED = 'headrace_partitions_owned{agent="clicks"}'
LISTS = "headrace_recommendations_total"
USERS = 80
BATCH = 300


@pytest.fixture(params=LANES)
def settings(request: pytest.FixtureRequest, topic_prefix: str) -> Iterator[Settings]:
    bootstrap = request.getfixturevalue(f"{request.param}_broker").bootstrap
    made = settings_for(bootstrap, topic_prefix, ("clicks",))
    asyncio.run(apply(made))
    yield made


class Feed:
    """Clicks of all readers, a portion at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = f"{settings.kafka.topic_prefix}clicks"
        self.sent = 0

    def more(self) -> None:
        portion: list[tuple[bytes | None, bytes | None]] = []
        for n in range(self.sent, self.sent + BATCH):
            user = f"u{n * 7 % USERS}"
            portion.append((user.encode(), click(n, user=user, item=f"i{n * n % 90}", at=NOW_MS + n * 40)))
        asyncio.run(produce(self._settings.kafka.bootstrap, self._topic, portion))
        self.sent += BATCH


def durable(settings: Settings, sent: int, within_s: float = 60.0) -> list[Any]:
    """Waits until every click is committed; returns the log."""

    async def main() -> list[Any]:
        bootstrap, prefix = settings.kafka.bootstrap, settings.kafka.topic_prefix
        log = await read_all(bootstrap, f"{prefix}clicks", sent)
        ends = {p: max((r.offset + 1 for r in log if r.partition == p), default=None) for p in range(4)}
        deadline_s = time.monotonic() + within_s
        while (found := await committed(bootstrap, f"{prefix}group.clicks", f"{prefix}clicks", 4)) != ends:
            assert time.monotonic() < deadline_s, f"committed {found} of {ends}"
            await asyncio.sleep(0.2)
        return log

    return asyncio.run(main())


def check_state(settings: Settings, log: list[Any]) -> None:
    """The changelog's newest rows, which a next owner would read, equal a plain replay of the log; and the newest
    list of each reader names that reader's last click."""

    async def main() -> None:
        bootstrap, prefix = settings.kafka.bootstrap, settings.kafka.topic_prefix
        rows = await read_all(bootstrap, f"{prefix}taste-changelog")
        newest = {(row.partition, row.key.decode()): row.value for row in rows}
        assert newest == replayed(settings, log)
        lists = await read_all(bootstrap, f"{prefix}recommendations")
        because = {r.key.decode(): json.loads(r.value)["because"]["offset"] for r in lists}
        assert because == {json.loads(r.value)["user"]: r.offset for r in log}

    asyncio.run(main())


def test_one_of_two_stops(settings: Settings, tmp_path: Path) -> None:
    feed = Feed(settings)
    with (
        WorkerProcess(settings, tmp_path / "first.log") as first,
        WorkerProcess(settings, tmp_path / "second.log") as second,
    ):
        first.wait_until(lambda: first.metric(OWNED) == 2 and second.metric(OWNED) == 2, 90, "they share")
        feed.more()
        first.wait_until(lambda: first.metric(LISTS) > 0 and second.metric(LISTS) > 0, 45, "both publish")
        lag = 'headrace_consumer_lag_records{agent="clicks",topic="clicks",partition="%d"}'
        page = first.get("/metrics")[1]
        theirs = [p for p in range(4) if lag % p in page]
        first.signal(signal.SIGTERM)
        feed.more()
        assert first.ended(settings.worker.grace_s) == 0, first.said
        second.wait_until(lambda: second.metric(OWNED) == 4 and second.ready, 45, "the second owns all")
        feed.more()
        log = durable(settings, feed.sent)
        check_state(settings, log)
        assert len(theirs) <= 2
        for worker in (first, second):
            assert "Traceback" not in worker.said, worker.said


def test_one_of_two_is_killed(settings: Settings, tmp_path: Path) -> None:
    feed = Feed(settings)
    with (
        WorkerProcess(settings, tmp_path / "first.log") as first,
        WorkerProcess(settings, tmp_path / "second.log") as second,
    ):
        first.wait_until(lambda: first.metric(OWNED) == 2 and second.metric(OWNED) == 2, 90, "they share")
        for _ in range(3):
            feed.more()
        first.signal(signal.SIGKILL)  # in the middle of them
        assert first.ended(5) == -signal.SIGKILL
        feed.more()
        within_s = settings.kafka.session_timeout_s + 45
        second.wait_until(lambda: second.metric(OWNED) == 4 and second.ready, within_s, "takeover")
        feed.more()
        check_state(settings, durable(settings, feed.sent))
        second.signal(signal.SIGTERM)
        assert second.ended(settings.worker.grace_s) == 0, second.said
        assert "Traceback" not in second.said, second.said
