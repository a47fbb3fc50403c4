"""A slow agent holds its partition, not its neighbours, and memory stays bounded; a broken one stops the worker before
anything behind its failure is committed."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from running import committed, produce, read_all, running, settings_for, until
from streams.agents import registry
from streams.errors import Fatal
from streams.topology.admin import apply
from streams.transport.intake import Intake
from streams.worker.app import Worker
from streams.worker.run import run_worker

LANES = [
    pytest.param("embedded", marks=pytest.mark.embedded),
    pytest.param("kafka", marks=pytest.mark.kafka),
]
AGENTS = {
    "slow": "SlowAgent",
    "sleepy": "SleepyAgent",
    "poison": "PoisonAgent",
    "poison_run": "PoisonRunAgent",
}


@pytest.fixture(autouse=True)
def agents(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, class_ in AGENTS.items():
        monkeypatch.setitem(registry.AGENTS, name, f"slow_agent:{class_}")


def records(n: int, size_bytes: int = 20) -> list[tuple[bytes | None, bytes | None]]:
    return [(b"k%d" % (i % 40), b"%d-" % i + b"x" * size_bytes) for i in range(n)]


@pytest.mark.parametrize("lane", LANES)
def test_a_slow_partition_is_held_and_the_others_go_on(
    lane: str, request: pytest.FixtureRequest, topic_prefix: str
) -> None:
    bootstrap = request.getfixturevalue(f"{lane}_broker").bootstrap
    settings = settings_for(bootstrap, topic_prefix, ("slow",))

    async def main() -> None:
        async with running(settings) as worker:
            agent, reader = _parts(worker)
            await produce(bootstrap, f"{topic_prefix}clicks", records(4000))
            log = await read_all(bootstrap, f"{topic_prefix}clicks", 4000)
            sizes = Counter(record.partition for record in log)
            others = 4000 - sizes[0]
            applied = worker.metrics.applied.labels("slow")
            await until(lambda: applied._value.get() == others, 20, "the other partitions are done")
            await asyncio.sleep(0.5)
            # Four batches of at most fifty, and what one poll brought before the pause held.
            assert 0 < agent.seen[0] <= 50 * 6 < sizes[0]
            assert worker.metrics.paused.labels("slow")._value.get() == 1
            group = f"{topic_prefix}group.slow"
            assert (await committed(bootstrap, group, f"{topic_prefix}clicks", 4))[0] is None
            agent.open_gate()
            await until(lambda: applied._value.get() == 4000, 20, "the held one is done, too")
            await until(lambda: worker.metrics.paused.labels("slow")._value.get() == 0, 20, "nothing is held")
            assert reader._owned.in_flight_bytes == 0

    asyncio.run(main())


@pytest.mark.parametrize("lane", LANES)
def test_bytes_in_flight_never_exceed_the_bound_by_more_than_a_fetch(
    lane: str, request: pytest.FixtureRequest, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bootstrap = request.getfixturevalue(f"{lane}_broker").bootstrap
    bound, fetch = 200_000, 100_000
    small = {"bytes_in_flight": bound, "fetch_bytes": fetch, "groups_in_flight": 2}
    settings = settings_for(bootstrap, topic_prefix, ("sleepy",), reader=small)
    most, noted = 0, Intake.batch

    def watched(intake: Any, tp: Any, found: list[Any]) -> Any:
        nonlocal most
        batch = noted(intake, tp, found)
        most = max(most, intake._owned.in_flight_bytes)
        return batch

    async def main() -> None:
        monkeypatch.setattr(Intake, "batch", watched)
        await apply(settings)
        # all of it is there before anything is read: how much comes at once hangs on nobody's speed
        await produce(bootstrap, f"{topic_prefix}clicks", records(1500, 4000))  # 6 MB
        async with running(settings, create=False) as worker:
            _, reader = _parts(worker)
            applied = worker.metrics.applied.labels("sleepy")
            await until(lambda: applied._value.get() == 1500, 30, "all done")
            assert bound / 2 < most <= bound + 4 * fetch, most  # one poll: a fetch of each partition
            assert reader._owned.in_flight_bytes == 0
        assert len(await read_all(bootstrap, f"{topic_prefix}recommendations", 1500)) == 1500

    asyncio.run(main())


@pytest.mark.parametrize("lane", LANES)
def test_work_that_outlasts_the_drain_is_given_up_unacknowledged(
    lane: str, request: pytest.FixtureRequest, topic_prefix: str
) -> None:
    """A revoke ends within its budget; what was not finished is done once by the next owner, and what the first makes
    of it later is not written."""
    bootstrap = request.getfixturevalue(f"{lane}_broker").bootstrap
    settings = settings_for(bootstrap, topic_prefix, ("slow",), worker={"drain_s": 1.0, "agents": ("slow",)})

    async def main() -> None:
        async with running(settings) as first:
            agent, reader = _parts(first)
            await produce(bootstrap, f"{topic_prefix}clicks", records(400))
            log = await read_all(bootstrap, f"{topic_prefix}clicks", 400)
            ends = dict(Counter(record.partition for record in log))
            await until(lambda: agent.kept, 20, "the slow partition has work in flight")
            applied = first.metrics.applied.labels("slow")._value
            await until(lambda: applied.get() == 400 - ends[0], 20, "the others have none")
            async with running(settings) as second:
                other, _ = _parts(second)
                await until(lambda: reader.ready and len(reader.owned) == 2, 20, "they share")
                agent.open_gate()  # also what it held when it lost them
                other.open_gate()
                group = f"{topic_prefix}group.slow"
                deadline = asyncio.get_running_loop().time() + 20
                while await committed(bootstrap, group, f"{topic_prefix}clicks", 4) != ends:
                    assert asyncio.get_running_loop().time() < deadline
                    await asyncio.sleep(0.2)
        made = await read_all(bootstrap, f"{topic_prefix}recommendations", 400)
        assert Counter(record.partition for record in made) == ends  # nothing twice

    asyncio.run(main())


@pytest.mark.parametrize("name", ["poison", "poison_run"])
@pytest.mark.parametrize("lane", LANES)
def test_a_bug_stops_the_worker_and_nothing_behind_it_is_committed(
    lane: str, name: str, request: pytest.FixtureRequest, topic_prefix: str
) -> None:
    bootstrap = request.getfixturevalue(f"{lane}_broker").bootstrap
    settings = settings_for(bootstrap, topic_prefix, (name,), topics={"partitions": 1})

    async def main() -> None:
        await apply(settings)
        good = records(100)
        await produce(bootstrap, f"{topic_prefix}clicks", good)
        ready = asyncio.Event()
        working = asyncio.create_task(run_worker(settings, ready=ready))
        group, topic = f"{topic_prefix}group.{name}", f"{topic_prefix}clicks"
        deadline = asyncio.get_running_loop().time() + 60
        while (await committed(bootstrap, group, topic, 1))[0] != 100:
            assert asyncio.get_running_loop().time() < deadline, "the first are not committed"
            await asyncio.sleep(0.1)
        await produce(bootstrap, topic, [*records(3), (b"k", b"poison"), *good])
        with pytest.raises(Fatal, match="a bug of the agent"):
            await asyncio.wait_for(working, 60)
        end = (await committed(bootstrap, group, topic, 1))[0]
        assert end is not None and 100 <= end <= 103

    asyncio.run(main())


def _parts(worker: Worker) -> tuple[Any, Any]:
    return worker._lines[0].agent, worker._lines[0].reader
