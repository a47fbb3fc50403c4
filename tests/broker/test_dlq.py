"""Dead letters by command: listed, shown, and sent again once, with a guard against loops."""

import asyncio
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from bad_records import click
from processes import options_of, run_command
from running import produce, read_all, running, settings_for, until
from sending import value_of
from streams.feed.deadletters import find, listed
from streams.topology.admin import apply

LANES = [
    pytest.param("embedded", marks=pytest.mark.embedded),
    pytest.param("kafka", marks=pytest.mark.kafka),
]
BAD = [(b"ann", b"{"), (b"bob", b'{"id": 1}'), (b"cem", b"\x1b]0;owned\x07{"), (None, b"{")]


@pytest.mark.parametrize("lane", LANES)
def test_list_show_and_replay(
    lane: str, request: pytest.FixtureRequest, topic_prefix: str, tmp_path: Path
) -> None:
    bootstrap = request.getfixturevalue(f"{lane}_broker").bootstrap
    settings = settings_for(bootstrap, topic_prefix, ("clicks",))
    options = options_of(settings)

    def dlq(*arguments: str) -> Any:
        ended = run_command([*options, "dlq", *arguments, "--json"], tmp_path)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    async def dead() -> list[Any]:
        return await read_all(bootstrap, f"{topic_prefix}clicks.dlt")

    async def main() -> None:
        async with running(settings) as worker:
            records = [*BAD, (b"dan", click(1, user="dan"))]
            applied = worker.metrics.applied.labels("clicks")._value
            await produce(bootstrap, f"{topic_prefix}clicks", records)  # type: ignore[arg-type]

            async def replayed(*arguments: str, dead_letters: int) -> dict[str, Any]:
                found = (await asyncio.to_thread(dlq, "replay", "--topic", "clicks", *arguments))["topics"]
                # applied: the letters, which are counted before that, are on their topic
                await until(lambda: applied.get() == dead_letters + 1, 30, f"{dead_letters} dead letters")
                assert value_of(worker, "headrace_dead_letters_total", agent="clicks") == dead_letters
                return found["clicks"]  # type: ignore[no-any-return]

            await until(lambda: applied.get() == len(records), 30, "all are done")
            listed = await asyncio.to_thread(dlq, "list")
            assert listed["counts"] == {"undecodable": 3, "schema": 1}
            assert {one["topic"] for one in listed["dead_letters"]} == {"clicks"}

            dry = await replayed("--dry-run", dead_letters=4)
            assert dry["sent"] == 4
            assert (await replayed("--reason", "schema", dead_letters=5))["sent"] == 1
            first = await replayed("--limit", "2", dead_letters=7)
            # five letters by now: one had been replayed before, two are sent
            assert (first["sent"], first["done_before"], first["beyond_limit"]) == (2, 1, 2)
            rest = await replayed(dead_letters=11)
            assert (rest["sent"], rest["done_before"]) == (
                4,
                3,
            )  # the two left, and the two that failed again
            again = await dead()
            for record in again:
                names = [name for name, _ in record.headers]
                assert len(names) == len(set(names)), names  # nothing piles up
            replays = sorted(int(dict(r.headers)["dlt.replays"]) for r in again if r.key == b"bob")
            assert replays == list(range(len(replays))) and len(replays) >= 3
            assert {r.value for r in again if r.key == b"cem"} == {BAD[2][1]}  # byte for byte

            guarded = await replayed("--max-replays", "1", dead_letters=11)
            assert guarded["sent"] == 0 and guarded["looping"] > 0

    asyncio.run(main())
    shown = dlq("list")["dead_letters"]
    hostile = next(one for one in shown if one["reason"] == "undecodable")
    ended = run_command(
        [*options, "dlq", "show", "clicks", str(hostile["partition"]), str(hostile["offset"])], tmp_path
    )
    assert ended.returncode == 0 and "__connect.errors.offset" in ended.stdout
    for one in shown[:3]:
        said = run_command(
            [*options, "dlq", "show", "clicks", str(one["partition"]), str(one["offset"])], tmp_path
        )
        assert "\x1b" not in said.stdout and "\x07" not in said.stdout
    missing = run_command([*options, "dlq", "show", "clicks", "0", "9999"], tmp_path)
    assert missing.returncode == 2 and "no dead letter" in missing.stderr


@pytest.mark.parametrize("lane", LANES)
def test_what_a_low_bound_left_is_sent_by_a_higher_one_and_hostile_names_are_harmless(
    lane: str, request: pytest.FixtureRequest, topic_prefix: str, tmp_path: Path
) -> None:
    """One that was replayed too often lies before one that never was, in the same partition and of the same reason."""
    bootstrap = request.getfixturevalue(f"{lane}_broker").bootstrap
    settings = settings_for(bootstrap, topic_prefix, ("clicks",))
    options = options_of(settings)

    async def write() -> None:
        await apply(settings)
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
        await producer.start()
        for replays in (b"3", b"0"):
            headers = [("dlt.reason", b"schema"), ("dlt.replays", replays), ("x\x1b]0;owned\x07", b"v")]
            await producer.send_and_wait(
                f"{topic_prefix}clicks.dlt", b"{", key=b"k", partition=0, headers=headers
            )
        await producer.stop()

    asyncio.run(write())

    def replay(*arguments: str) -> tuple[int, int, int]:
        ended = run_command([*options, "dlq", "replay", "--topic", "clicks", *arguments, "--json"], tmp_path)
        assert ended.returncode == 0, ended.stderr
        done = json.loads(ended.stdout)["topics"]["clicks"]
        return done["sent"], done["looping"], done["done_before"]

    assert replay() == (1, 1, 0)
    assert replay() == (0, 1, 1)
    assert replay("--max-replays", "10") == (1, 0, 1)
    assert replay("--max-replays", "10") == (0, 0, 2)
    shown = run_command([*options, "dlq", "show", "clicks", "0", "0"], tmp_path)
    assert "owned" in shown.stdout and "\x1b" not in shown.stdout and "\x07" not in shown.stdout


@pytest.mark.parametrize("lane", LANES)
def test_a_list_of_many_large_letters_keeps_few_in_memory(
    lane: str, request: pytest.FixtureRequest, topic_prefix: str
) -> None:
    bootstrap = request.getfixturevalue(f"{lane}_broker").bootstrap
    settings = settings_for(bootstrap, topic_prefix, ("clicks",))
    letters, size_bytes = 48, 4 << 20

    async def main() -> None:
        await apply(settings)
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_request_size=16 << 20)
        await producer.start()
        for n in range(letters):
            headers = [("dlt.reason", b"schema" if n % 3 else b"empty"), ("dlt.attempts", b"2")]
            await producer.send_and_wait(
                f"{topic_prefix}clicks.dlt", bytes(size_bytes), b"%d" % n, n % 4, 1_000 + n, headers
            )
        await producer.stop()
        tracemalloc.start()
        try:
            found = await listed(settings, "clicks", 4, None, 5)
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert found.counts == {"schema": 32, "empty": 16}
        newest = [(n % 4, n // 4) for n in range(letters - 5, letters)]
        assert [(one.partition, one.offset) for one in found.newest] == newest
        assert {one.attempts for one in found.newest} == {2}
        assert peak_bytes < letters * size_bytes / 2, f"{peak_bytes:,}"
        assert (await listed(settings, "clicks", 4, "empty", 1)).counts == {"empty": 16}
        one = await find(settings, "clicks", 4, 3, 11)
        assert one is not None and one.key == b"47" and one.value == bytes(size_bytes)
        for nowhere in ((3, 12), (4, 0)):
            assert await find(settings, "clicks", 4, *nowhere) is None

    asyncio.run(main())
