"""The clicks agent on a broker: after restart and takeover its state equals a plain replay of the log, bit by bit."""

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest

from bad_records import NOW_MS, click
from running import committed, produce, read_all, running, settings_for, until
from streams.agents.clicks import ClicksAgent
from streams.settings import Settings
from streams.worker.app import Worker
from taste_oracle import replayed

LANES = [
    pytest.param("embedded", marks=pytest.mark.embedded),
    pytest.param("kafka", marks=pytest.mark.kafka),
]
KINDS = ("click", "click", "like", "dwell", "skip", "impression", "hide", "undo")


def clicks(n: int, start: int = 0, users: int = 60) -> list[tuple[bytes | None, bytes | None]]:
    """Keyed clicks of readers of whom few are busy; every tenth of a second, with a few bad ones between."""
    draw = random.Random(start)
    records: list[tuple[bytes | None, bytes | None]] = []
    for i in range(start, start + n):
        user = f"u{int(users * draw.random() ** 2)}"
        more: dict[str, Any] = {"item": f"i{draw.randrange(200)}", "kind": draw.choice(KINDS)}
        if more["kind"] == "dwell":
            more["dwell_s"] = draw.random() * 40
        if more["kind"] in ("hide", "undo"):
            more["author"] = f"a{draw.randrange(5)}"
        at = NOW_MS + 100 * i - draw.randrange(5000)
        records.append((user.encode(), b"{" if i % 97 == 0 else click(i, user=user, at=at, **more)))
    return records


def states(*workers: Worker) -> dict[tuple[int, str], bytes]:
    """(partition, user) -> encoded state, over what the workers own."""
    found: dict[tuple[int, str], bytes] = {}
    for worker in workers:
        agent = worker._lines[0].agent
        assert isinstance(agent, ClicksAgent)
        for partition in worker._lines[0].reader.owned:
            rows = agent._state.rows
            users = rows.users(partition)
            states = zip(users, rows.encode(rows.rows_of(users, partition)), strict=True)
            found |= {(partition, user): state for user, state in states}
    return found


async def check_states(worker: Worker, wanted: dict[tuple[int, str], bytes]) -> None:
    """A worker that stood still for longer than a session has to read its partitions back first."""
    await until(lambda: states(worker).keys() == wanted.keys(), 20, "all readers are in memory")
    assert states(worker) == wanted


async def expected(settings: Settings, at_least: int) -> dict[tuple[int, str], bytes]:
    """The oracle over the whole log of `clicks`."""
    log = await read_all(settings.kafka.bootstrap, f"{settings.kafka.topic_prefix}clicks", at_least)
    return replayed(settings, log)


async def all_done(settings: Settings, group: str, within_s: float = 60.0) -> None:
    """Every offset of the log is committed."""
    bootstrap, prefix = settings.kafka.bootstrap, settings.kafka.topic_prefix
    log = await read_all(bootstrap, f"{prefix}clicks")
    ends: dict[int, int] = defaultdict(int)
    for record in log:
        ends[record.partition] = max(ends[record.partition], record.offset + 1)
    deadline = asyncio.get_running_loop().time() + within_s
    while True:
        found = await committed(bootstrap, f"{prefix}group.{group}", f"{prefix}clicks", 4)
        if all(found[p] == end for p, end in ends.items()):
            return
        assert asyncio.get_running_loop().time() < deadline, f"committed {found} of {dict(ends)}"
        await asyncio.sleep(0.2)


def last_offsets(log: Sequence[Any]) -> dict[str, tuple[int, int]]:
    """user -> (partition, offset) of the last good click."""
    return {
        json.loads(record.value)["user"]: (record.partition, record.offset)
        for record in log
        if record.value != b"{"
    }


@pytest.mark.parametrize("lane", LANES)
class TestClicksState:
    def test_state_and_lists_after_a_run_and_a_restart(
        self, lane: str, request: pytest.FixtureRequest, topic_prefix: str
    ) -> None:
        bootstrap = request.getfixturevalue(f"{lane}_broker").bootstrap
        settings = settings_for(bootstrap, topic_prefix, ("clicks",))

        async def main() -> None:
            async with running(settings) as worker:
                await produce(bootstrap, f"{topic_prefix}clicks", clicks(2000))
                await all_done(settings, "clicks")
                before = await expected(settings, 2000)
                await check_states(worker, before)
            async with running(settings) as worker:
                await check_states(worker, before)  # all of it from the changelog
                await produce(bootstrap, f"{topic_prefix}clicks", clicks(1000, 2000))
                await all_done(settings, "clicks")
                after = await expected(settings, 3000)
                assert after != before
                await check_states(worker, after)
            log = await read_all(bootstrap, f"{topic_prefix}clicks", 3000)
            last: dict[str, Any] = {}
            for record in await read_all(bootstrap, f"{topic_prefix}recommendations"):
                made = json.loads(record.value)
                assert record.key.decode() == made["user"]
                assert record.partition == made["because"]["partition"]
                last[made["user"]] = (made["because"]["partition"], made["because"]["offset"])
            assert last == last_offsets(log)

        asyncio.run(main())

    def test_clicks_read_again_change_nothing(
        self, lane: str, request: pytest.FixtureRequest, topic_prefix: str
    ) -> None:
        """The offsets are lost (as after a crash before the commit): the fences skip what was applied."""
        bootstrap = request.getfixturevalue(f"{lane}_broker").bootstrap
        first = settings_for(bootstrap, topic_prefix, ("clicks",))
        again = settings_for(bootstrap, topic_prefix, ("clicks",), kafka={"group": f"{topic_prefix}again"})

        async def main() -> None:
            async with running(first) as worker:
                await produce(bootstrap, f"{topic_prefix}clicks", clicks(1500))
                await all_done(first, "clicks")
                before = await expected(first, 1500)
                await check_states(worker, before)
            published = len(await read_all(bootstrap, f"{topic_prefix}recommendations"))
            async with running(again) as worker:
                applied = worker.metrics.applied.labels("clicks")
                await until(lambda: applied._value.get() == 1500, 20, "all read again")
                good = sum(value != b"{" for _, value in clicks(1500))
                assert worker.metrics.repeated.labels("clicks")._value.get() == good
                await check_states(worker, before)
            assert len(await read_all(bootstrap, f"{topic_prefix}recommendations")) == published

        asyncio.run(main())

    def test_a_takeover_brings_the_state_along(
        self, lane: str, request: pytest.FixtureRequest, topic_prefix: str
    ) -> None:
        bootstrap = request.getfixturevalue(f"{lane}_broker").bootstrap
        settings = settings_for(bootstrap, topic_prefix, ("clicks",))

        async def main() -> None:
            async with running(settings) as first:
                feeding = asyncio.create_task(_feed(bootstrap, f"{topic_prefix}clicks"))
                async with running(settings) as second:
                    owned = lambda: [w._lines[0].reader.owned for w in (first, second)]  # noqa: E731
                    everything = lambda: sorted(p for each in owned() for p in each)  # noqa: E731
                    await until(
                        lambda: all(owned()) and everything() == [0, 1, 2, 3], 20, "both own partitions"
                    )
                    await asyncio.sleep(1.0)
                await until(lambda: len(first._lines[0].reader.owned) == 4 and first.ready, 60, "takeover")
                await feeding
                await all_done(settings, "clicks")
                await check_states(first, await expected(settings, 3000))

        asyncio.run(main())


async def _feed(bootstrap: str, topic: str) -> None:
    for start in range(0, 3000, 150):
        await produce(bootstrap, topic, clicks(150, start))
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
@pytest.mark.kafka
def test_clicks_that_come_compressed(codec: str, kafka_broker: Any, topic_prefix: str) -> None:
    bootstrap = kafka_broker.bootstrap
    settings = settings_for(bootstrap, topic_prefix, ("clicks",))

    async def main() -> None:
        async with running(settings) as worker:
            await produce(bootstrap, f"{topic_prefix}clicks", clicks(300), compression_type=codec)
            await all_done(settings, "clicks")
            await check_states(worker, await expected(settings, 300))

    asyncio.run(main())
