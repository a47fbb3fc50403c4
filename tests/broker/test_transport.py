"""The batch reader and group commit on real brokers: nothing lost, nothing counted twice, whoever owns a partition."""

import asyncio
import json
from collections import Counter

import pytest

from running import committed, produce, read_all, running, settings_for, until
from streams.agents import registry
from streams.worker.app import Worker

KEYS = 50


@pytest.fixture(autouse=True)
def counting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.AGENTS, "counting", "counting:CountingAgent")


def _records(n: int, start: int = 0) -> list[tuple[bytes, bytes]]:
    return [(f"k{i * i % KEYS}".encode(), str(i).encode()) for i in range(start, start + n)]


def _expected(records: list[tuple[bytes, bytes]]) -> dict[str, int]:
    return dict(Counter(key.decode() for key, _ in records))


def _counts(*workers: Worker) -> dict[str, int]:
    return {
        key: row[0]
        for worker in workers
        for line in worker._lines
        for rows in line.agent.partitions.values()
        for key, row in rows.items()
    }


@pytest.mark.parametrize(
    "lane",
    [pytest.param("embedded", marks=pytest.mark.embedded), pytest.param("kafka", marks=pytest.mark.kafka)],
)
class TestTransport:
    def _bootstrap(self, lane: str, request: pytest.FixtureRequest) -> str:
        return str(request.getfixturevalue(f"{lane}_broker").bootstrap)

    def test_counts_outputs_and_commits_everything(
        self, lane: str, request: pytest.FixtureRequest, topic_prefix: str
    ) -> None:
        bootstrap = self._bootstrap(lane, request)
        settings = settings_for(bootstrap, topic_prefix, ("counting",))
        records = _records(3000)

        async def main() -> None:
            async with running(settings) as worker:
                await produce(bootstrap, f"{topic_prefix}clicks", records)
                await until(lambda: sum(_counts(worker).values()) == len(records), 20, "all counted")
                assert _counts(worker) == _expected(records)
            last = {}
            for record in await read_all(bootstrap, f"{topic_prefix}recommendations"):
                last[record.key.decode()] = json.loads(record.value)[0]
            assert last == _expected(records)
            found = await committed(bootstrap, f"{topic_prefix}group.counting", f"{topic_prefix}clicks", 4)
            ends = Counter(r.partition for r in await read_all(bootstrap, f"{topic_prefix}clicks"))
            assert {p: found[p] or 0 for p in range(4)} == {p: ends[p] for p in range(4)}

        asyncio.run(main())

    def test_a_restart_reads_the_state_back_and_counts_on(
        self, lane: str, request: pytest.FixtureRequest, topic_prefix: str
    ) -> None:
        bootstrap = self._bootstrap(lane, request)
        settings = settings_for(bootstrap, topic_prefix, ("counting",))

        async def main() -> None:
            async with running(settings) as worker:
                await produce(bootstrap, f"{topic_prefix}clicks", _records(500))
                await until(lambda: sum(_counts(worker).values()) == 500, 20, "first part")
            await produce(bootstrap, f"{topic_prefix}clicks", _records(500, 500))
            async with running(settings) as worker:
                await until(lambda: sum(_counts(worker).values()) == 1000, 20, "second part")
                assert _counts(worker) == _expected(_records(1000))

        asyncio.run(main())

    def test_two_workers_share_and_one_takes_over(
        self, lane: str, request: pytest.FixtureRequest, topic_prefix: str
    ) -> None:
        bootstrap = self._bootstrap(lane, request)
        settings = settings_for(bootstrap, topic_prefix, ("counting",))
        records = _records(6000)

        async def main() -> None:
            async with running(settings) as first:
                feeding = asyncio.create_task(_feed(bootstrap, f"{topic_prefix}clicks", records))
                async with running(settings) as second:
                    both = [first, second]
                    owned = lambda: [w._lines[0].reader.owned for w in both]  # noqa: E731
                    everything = lambda: sorted(p for each in owned() for p in each)  # noqa: E731
                    await until(
                        lambda: all(owned()) and everything() == [0, 1, 2, 3], 20, "both own partitions"
                    )
                    await asyncio.sleep(0.5)
                await until(lambda: len(first._lines[0].reader.owned) == 4, 60, "the first owns all again")
                await feeding
                await until(lambda: sum(_counts(first).values()) == len(records), 20, "all counted once")
                assert _counts(first) == _expected(records)

        asyncio.run(main())


async def _feed(bootstrap: str, topic: str, records: list[tuple[bytes, bytes]]) -> None:
    for cut in range(0, len(records), 200):
        await produce(bootstrap, topic, records[cut : cut + 200])
        await asyncio.sleep(0.05)
