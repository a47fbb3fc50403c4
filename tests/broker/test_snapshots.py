"""Snapshots on real brokers: the state is the same with one, without one, and with one that is no good."""

import asyncio
import errno
import os
import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka.admin import AdminClient

from bad_records import click
from models.taste.readers.layout import fence_of
from running import produce, running, settings_for, until
from streams.agents.clicks import ClicksAgent
from streams.clock import SystemClock
from streams.settings import Settings
from streams.state import snapshots
from streams.state.changelog import ChangelogReader
from streams.state.snapshotfile import Snapshot, write
from streams.state.snapshots import Snapshots
from streams.topology.admin import apply
from streams.topology.topics import TASTE_CHANGELOG
from streams.worker.app import Worker

LANES = [
    pytest.param("embedded", marks=pytest.mark.embedded),
    pytest.param("kafka", marks=pytest.mark.kafka),
]
Rows = dict[bytes, bytes]
LAYOUT = "user v2, settings 00000001"


def row(fence: int) -> bytes:
    return b"\2\0\0\0\0" + fence.to_bytes(8, "little") + bytes(20)


class LaterClock(SystemClock):
    """The wall clock, moved."""

    ahead_ms = 0

    def wall_ms(self) -> int:
        return super().wall_ms() + self.ahead_ms


class Place:
    """A changelog on a broker, and a folder for its snapshots."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings, self.folder = settings, folder
        self.topic = f"{settings.kafka.topic_prefix}{TASTE_CHANGELOG}"
        self.path = folder / f"{self.topic}-0.snapshot"
        self.clock = LaterClock()

    async def send(self, records: list[tuple[bytes | None, bytes | None]]) -> None:
        await produce(self.settings.kafka.bootstrap, self.topic, records)

    def snapshots(self, outcomes: list[str], layout: str = LAYOUT) -> Snapshots:
        return Snapshots(self.folder, self.topic, layout, fence_of, self.clock, outcomes.append)

    async def read(self, outcomes: list[str] | None = None, layout: str = LAYOUT) -> tuple[Rows, int]:
        """The rows, and how many records were read for them; with snapshots where outcomes are asked for."""
        kept = None if outcomes is None else self.snapshots(outcomes, layout)
        reader, rows = ChangelogReader(self.settings.kafka, TASTE_CHANGELOG, kept), {}

        def apply(keys: Any, values: Any) -> None:
            for key, value in zip(keys, values, strict=True):
                if not value:
                    rows.pop(key, None)
                elif key not in rows or fence_of(value) >= fence_of(rows[key]):
                    rows[key] = value

        try:
            return rows, await reader.replay(0, apply)
        finally:
            await reader.stop()

    async def advance(self, layout: str = LAYOUT) -> list[str]:
        """Write the snapshot as the background task does."""
        outcomes: list[str] = []
        kept = self.snapshots(outcomes, layout)
        reader = ChangelogReader(self.settings.kafka, TASTE_CHANGELOG, kept)
        try:
            await kept.advance(await reader._connected(), 0)
        finally:
            await reader.stop()
        return outcomes


@pytest.fixture(params=LANES)
def place(request: pytest.FixtureRequest, topic_prefix: str, tmp_path: Path) -> Place:
    broker = request.getfixturevalue(f"{request.param}_broker")
    settings = settings_for(broker.bootstrap, topic_prefix, ("clicks",), topics={"partitions": 1})
    asyncio.run(apply(settings))
    return Place(settings, tmp_path / "snapshots")


def some(n: int, seed: int, users: int = 40) -> list[tuple[bytes | None, bytes | None]]:
    draw = random.Random(seed)
    return [
        (b"u%d" % draw.randrange(users), None if draw.random() < 0.05 else row(1000 * seed + i))
        for i in range(n)
    ]


def test_the_state_is_the_same_and_less_is_read(place: Place) -> None:
    async def run() -> None:
        for seed in range(4):
            await place.send(some(300, seed))
            assert await place.advance() == ["written"]
            await place.send(some(20, 10 + seed, users=5))
        outcomes: list[str] = []
        plain, all_read = await place.read()
        with_one, read = await place.read(outcomes)
        assert with_one == plain and outcomes == ["used"]
        assert all_read == 1280 and read <= 2 * 40 + 20  # a row that stands, and the last one
        assert await place.advance() == ["written"]
        assert await place.advance() == []  # nothing new
        with_one, read = await place.read(outcomes)
        assert with_one == plain and read <= 2 * 40
        await place.send(some(1, 77))
        assert (await place.read(outcomes))[0] == (await place.read())[0]

    asyncio.run(run())


def test_a_removed_reader_does_not_come_back(place: Place) -> None:
    async def run() -> None:
        await place.send([(b"ann", row(1)), (b"bob", row(1))])
        assert await place.advance() == ["written"]
        await place.send([(b"ann", None)])
        outcomes: list[str] = []
        assert (await place.read(outcomes))[0] == {b"bob": row(1)} and outcomes == ["used"]
        assert await place.advance() == ["written"]
        assert (await place.read(outcomes))[0] == {b"bob": row(1)} and outcomes == ["used", "used"]

    asyncio.run(run())


def other_head(**changed: Any) -> Callable[[Place], None]:
    """The same rows under another head, with a right checksum."""

    def change(place: Place) -> None:
        with Snapshot(place.path) as snapshot:
            blocks, head = list(snapshot.blocks()), snapshot.head
        write(place.path, msgspec.structs.replace(head, **changed), blocks, lambda: False)

    return change


def flipped(place: Place) -> None:
    data = bytearray(place.path.read_bytes())
    data[random.Random(5).randrange(len(data))] ^= 0x10
    place.path.write_bytes(data)


def cut(place: Place) -> None:
    place.path.write_bytes(place.path.read_bytes()[:-100])


def too_old(place: Place) -> None:
    place.clock.ahead_ms = snapshots.MAX_AGE_MS + 60_000


def of_the_future(place: Place) -> None:
    place.clock.ahead_ms = -3_600_000


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (flipped, "damaged|of this version"),
        (cut, "checksum"),
        (other_head(layout="user v1, settings 00000001"), "layout"),
        (other_head(cluster="another"), "cluster"),
        (other_head(topic="another"), "topic"),
        (other_head(partition=1), "partition"),
        (other_head(offset=100_000), "not reached"),
        (other_head(offset=-5), "begins at"),
        (other_head(newest_ms=1_700_000_000_000), "another than"),
        (too_old, "hours old"),
        (of_the_future, "hours old"),
    ],
)
def test_a_file_that_is_no_good_is_left_aside_with_one_warning(
    place: Place, spoil: Callable[[Place], None], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        await place.send(some(200, 1))
        assert await place.advance() == ["written"]
        await place.send(some(50, 2))
        spoil(place)
        outcomes: list[str] = []
        rows, read = await place.read(outcomes)
        plain, all_read = await place.read()
        assert rows == plain and read == all_read == 250 and outcomes == ["ignored"]
        assert await place.advance() == ["written"]  # a good one takes its place

    asyncio.run(run())
    caplog.set_level("WARNING")
    warnings = [record.getMessage() for record in caplog.records if "snapshot" in record.getMessage()]
    assert len(warnings) == 1
    assert re.search(why, warnings[0]), warnings


def test_a_topic_that_was_made_anew_is_noticed(place: Place) -> None:
    """Its offsets reach as far, its readers are others."""

    async def run() -> None:
        await place.send(some(50, 1))
        assert await place.advance() == ["written"]
        admin = AdminClient({"bootstrap.servers": place.settings.kafka.bootstrap})
        for deleted in admin.delete_topics([place.topic], operation_timeout=10).values():
            deleted.result(timeout=15)
        until_s = time.monotonic() + 30
        while place.topic in admin.list_topics(timeout=15).topics:
            assert time.monotonic() < until_s, "the topic is still there"
            await asyncio.sleep(0.1)
        await apply(place.settings)
        await place.send([(b"new%d" % n, row(n)) for n in range(80)])
        outcomes: list[str] = []
        rows, _ = await place.read(outcomes)
        assert set(rows) == {b"new%d" % n for n in range(80)} and outcomes == ["ignored"]

    asyncio.run(run())


def test_a_full_disk_costs_a_warning_and_nothing_else(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        await place.send(some(50, 1))
        assert await place.advance() == ["written"]
        good = place.path.read_bytes()
        await place.send(some(50, 2))

        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            assert await place.advance() == ["failed"]
        assert place.path.read_bytes() == good and len(list(place.folder.iterdir())) == 1
        assert "No space left" in caplog.text
        assert (await place.read([]))[0] == (await place.read())[0]
        assert await place.advance() == ["written"]

    asyncio.run(run())


def test_files_of_partitions_that_left_long_ago_are_removed(place: Place) -> None:
    async def run() -> None:
        await place.send(some(5, 1))
        await place.advance()

    asyncio.run(run())
    place.snapshots([]).remove_old()
    assert place.path.exists()
    place.clock.ahead_ms = snapshots.MAX_AGE_MS + 60_000
    place.snapshots([]).remove_old()
    assert not place.path.exists()


@pytest.mark.parametrize(
    ("lane", "delivery"),
    [
        pytest.param("embedded", "at_least_once", marks=pytest.mark.embedded),
        pytest.param("kafka", "at_least_once", marks=pytest.mark.kafka),
        pytest.param("kafka", "exactly_once", marks=pytest.mark.kafka),
    ],
)
def test_a_worker_writes_them_and_starts_from_them(
    lane: str, delivery: str, request: pytest.FixtureRequest, topic_prefix: str, tmp_path: Path
) -> None:
    bootstrap = request.getfixturevalue(f"{lane}_broker").bootstrap
    settings = settings_for(
        bootstrap,
        topic_prefix,
        ("clicks", "items"),
        topics={"partitions": 2},
        worker={"delivery": delivery},
        state={"snapshots": str(tmp_path), "snapshot_interval_s": 0.5},
    )

    def states(worker: Worker) -> dict[tuple[int, str], bytes]:
        agent = worker._lines[0].agent
        assert isinstance(agent, ClicksAgent)
        rows = agent._state.rows
        users = [(partition, user) for partition in (0, 1) for user in rows.users(partition)]
        return {(p, user): value for p, user in users for value in rows.encode(rows.rows_of([user], p))}

    def count(worker: Worker, agent: str, outcome: str) -> int:
        return int(worker.metrics.snapshots.labels(agent, outcome)._value.get())

    async def feed(worker: Worker, start: int) -> None:
        applied = worker.metrics.applied.labels("clicks")
        before = applied._value.get()
        sent: list[Any] = [
            (b"u%d" % (n % 37), click(n, user=f"u{n % 37}", item=f"i{n % 11}"))
            for n in range(start, start + 300)
        ]
        await produce(bootstrap, f"{topic_prefix}clicks", sent)
        await until(lambda: applied._value.get() == before + 300, 30, "all applied")

    def spoil_all() -> None:
        for path in tmp_path.glob("*taste-changelog-*.snapshot"):
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)

    async def run() -> None:
        async with running(settings) as worker:
            await feed(worker, 0)
            for topic in ("taste-changelog", "item-table"):
                files = lambda topic=topic: list(tmp_path.glob(f"*{topic}-?.snapshot"))  # noqa: E731
                await until(lambda files=files: len(files()) == 2, 30, f"{topic}: both partitions")
            await feed(worker, 300)  # after the snapshots, most likely
            before = states(worker)
            assert count(worker, "clicks", "failed") == count(worker, "clicks", "ignored") == 0
        async with running(settings) as worker:
            assert count(worker, "clicks", "used") == 2
            assert states(worker) == before and len(before) == 37
            assert count(worker, "items", "used") == 2
        spoil_all()
        async with running(settings) as worker:
            assert count(worker, "clicks", "ignored") == 2 and states(worker) == before

    asyncio.run(run())
