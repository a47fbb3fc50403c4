"""A reader is forgotten: on a real broker after compaction, in dead letters and snapshots; and stays away."""

import asyncio
import contextlib
import json
import time
from pathlib import Path
from typing import Any

import pytest

from bad_records import NOW_MS, click
from running import produce, running, settings_for, until
from streams.cli.run import run as headrace
from streams.demo.kafka import KafkaBroker
from streams.feed.tail import records
from streams.settings import Settings
from streams.topology.topics import TOPOLOGY

NAME = "zoe-who-leaves"
OTHERS = ("ada", "ben", "cyd", "dan", "eve", "fay")  # of both partitions


def sent() -> list[tuple[bytes | None, bytes | None]]:
    made: list[tuple[bytes | None, bytes | None]] = []
    for n in range(140):
        user = (NAME, *OTHERS)[n % 7]
        made.append((user.encode(), click(n, user=user, item=f"i{n % 9}", at=NOW_MS + n)))
    made += [(user.encode(), b"{not json") for user in (NAME, *OTHERS) for _ in range(2)]
    made.append((None, b'{"user": "' + NAME.encode() + b'", "kind": "no such"}'))
    return made


def command(settings: Settings, *arguments: str) -> int:
    kafka = settings.kafka
    return headrace(
        [
            *(
                "--set",
                f"kafka.bootstrap={kafka.bootstrap}",
                "--set",
                f"kafka.topic_prefix={kafka.topic_prefix}",
            ),
            *(
                "--set",
                f"kafka.group={kafka.group}",
                "--set",
                f"topics.partitions={settings.topics.partitions}",
            ),
            *arguments,
        ]
    )


async def everything(settings: Settings, topic: str) -> list[Any]:
    return [
        record
        async for record in records(
            settings, topic, settings.topics.partitions, from_beginning=True, follow=False
        )
    ]


async def holders(settings: Settings, live: bool) -> set[str]:
    """Topics in which the name can be read; of compacted ones, with `live`, only what compaction would keep."""
    found = set()
    for topic in TOPOLOGY:
        read = await everything(settings, topic.name)
        if live and topic.compacted:
            last = {(r.partition, r.key): r for r in read}
            read = [r for r in last.values() if r.value is not None]
        for r in read:
            parts = [r.key or b"", r.value or b"", *(value or b"" for _, value in r.headers)]
            if any(NAME.encode() in part for part in parts):
                found.add(topic.name)
    return found


@pytest.mark.kafka
def test_forgotten_and_away(
    kafka_broker: KafkaBroker,
    topic_prefix: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broker = kafka_broker
    settings = settings_for(
        broker.bootstrap,
        topic_prefix,
        ("clicks", "privacy"),
        state={"snapshots": str(tmp_path), "snapshot_interval_s": 0.5},
        topics={"partitions": 2},
    )
    clicks = f"{topic_prefix}clicks"

    def in_snapshots() -> bool:
        found = False
        for path in tmp_path.glob("*"):
            with contextlib.suppress(
                FileNotFoundError
            ):  # renamed meanwhile, and seen under its new name next time
                found |= NAME.encode() in path.read_bytes()
        return found

    async def dead_letters() -> list[tuple[Any, Any]]:
        letters = await everything(settings, "clicks.dlt")
        return sorted((r.key or b"", r.value or b"") for r in letters)

    async def main() -> None:
        async with running(settings) as worker:
            applied = worker.metrics.applied.labels("clicks")
            forgotten = worker.metrics.forgotten.labels("clicks")
            await produce(broker.bootstrap, clicks, sent())
            await until(lambda: applied._value.get() == len(sent()), 20, "all applied")
            await until(in_snapshots, 20, "it is in a snapshot")
            before = await holders(settings, live=True)
            assert before == {"clicks", "taste-changelog", "recommendations", "clicks.dlt"}
            letters = await dead_letters()
            assert len(letters) == 15

            assert await asyncio.to_thread(command, settings, "forget", NAME, "--json") == 0
            receipts = json.loads(capsys.readouterr().out)["receipts"]
            assert {one["kind"] for one in receipts} == {"forget"}
            assert any(one["had_state"] for one in receipts)
            assert sum(one["dead_letters"] for one in receipts) == 3
            left = [letter for letter in letters if not any(NAME.encode() in part for part in letter)]
            assert await dead_letters() == left

            late = [(NAME.encode(), click(500, user=NAME)), (NAME.encode(), b"{late and bad")]
            await produce(broker.bootstrap, clicks, [*late, *sent()[1:4]])
            await until(lambda: forgotten._value.get() == 2, 20, "late ones are dropped")
            await until(lambda: not in_snapshots(), 30, "it is in no snapshot")
            after = await holders(settings, live=True)
            assert after == {"clicks", "privacy"}
            assert broker.data is not None
            await _compacted_away(settings, broker.data / "records")

    asyncio.run(main())
    capsys.readouterr()
    assert command(settings, "dlq", "list", "--json") == 0
    assert json.loads(capsys.readouterr().out)["counts"] != {}


@pytest.mark.embedded
def test_a_broker_that_cannot_remove_records_is_said_so(
    embedded_broker: Any, topic_prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_for(
        embedded_broker.bootstrap, topic_prefix, ("clicks", "privacy"), topics={"partitions": 1}
    )

    async def main() -> None:
        async with running(settings) as worker:
            applied = worker.metrics.applied.labels("clicks")
            await produce(embedded_broker.bootstrap, f"{topic_prefix}clicks", sent())
            await until(lambda: applied._value.get() == len(sent()), 20, "all applied")
            assert await asyncio.to_thread(command, settings, "forget", NAME) == 0

    asyncio.run(main())
    said = capsys.readouterr().out
    assert "state erased" in said and "dead letters stay for their 30 days" in said


async def _compacted_away(settings: Settings, folder: Path) -> None:
    """With retention and compaction made quick, the name is in no file of any topic, but for what was removed from
    the front of dead letters."""
    from confluent_kafka.admin import (
        AdminClient,
        AlterConfigOpType,
        ConfigEntry,
        ConfigResource,
        ResourceType,
    )

    prefix = settings.kafka.topic_prefix

    def files() -> set[str]:
        found = set()
        for path in folder.glob(f"{prefix}*/*"):
            try:
                if ".dlt" not in path.parent.name and NAME.encode() in path.read_bytes():
                    found.add(path.parent.name)
            except FileNotFoundError:
                pass  # compacted away meanwhile
        return found

    assert len(files()) >= 3  # clicks, the changelog, lists: else the test would see nothing ever
    quick = {"segment.ms": "100", "file.delete.delay.ms": "100"}
    gone = {"retention.ms": "500"}
    compact = {"min.compaction.lag.ms": "0", "delete.retention.ms": "0", "min.cleanable.dirty.ratio": "0.001"}
    admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap})
    resources = []
    for topic in TOPOLOGY:
        if topic.compacted or topic.name in ("clicks", "privacy"):
            wanted = quick | (compact if topic.compacted else gone)
            entries = [
                ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
                for name, value in wanted.items()
            ]
            resources.append(
                ConfigResource(ResourceType.TOPIC, f"{prefix}{topic.name}", incremental_configs=entries)
            )
    for altered in admin.incremental_alter_configs(resources).values():
        await asyncio.to_thread(altered.result, 15)

    deadline = time.monotonic() + 90
    n = 1000
    while files():
        assert time.monotonic() < deadline, files()
        more = [(user.encode(), click(n + i, user=user)) for i, user in enumerate(OTHERS)]
        await produce(settings.kafka.bootstrap, f"{prefix}clicks", more)
        n += 10
        await asyncio.sleep(0.3)
