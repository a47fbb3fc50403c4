"""Heartbeats take the way of clicks and orders, tell how long that takes, and are no clicks: whoever reads them."""

import asyncio
import time
from typing import Any

import pytest

from bad_records import click
from running import committed, produce, read_all, running, settings_for, until
from sending import Sent, send, value_of
from streams.heartbeat import HEADERS, KEY, is_heartbeat
from streams.worker.app import Worker

EVERY_S = 0.2
PARTITIONS = range(4)


def heard(worker: Worker, agent: str) -> dict[str, float]:
    """Partition -> when its newest heartbeat was sent that came through."""
    return {
        sample.labels["partition"]: sample.value
        for family in worker.metrics.registry.collect()
        for sample in family.samples
        if sample.name == "headrace_heartbeat_timestamp_seconds" and sample.labels["agent"] == agent
    }


def fresh(worker: Worker, agent: str, since_s: float) -> bool:
    """Every owned partition has one that was sent since then, and no other has any."""
    found = heard(worker, agent)
    line = next(line for line in worker._lines if line.agent.name == agent)
    return found.keys() == {str(p) for p in line.reader.owned} and all(at > since_s for at in found.values())


def ends_of(log: list[Any]) -> dict[int, int]:
    return {p: max(record.offset for record in log if record.partition == p) + 1 for p in PARTITIONS}


@pytest.mark.parametrize(
    ("lane", "delivery"),
    [
        pytest.param("embedded", "at_least_once", marks=pytest.mark.embedded),
        pytest.param("kafka", "at_least_once", marks=pytest.mark.kafka),
        pytest.param("kafka", "exactly_once", marks=pytest.mark.kafka),
    ],
)
def test_heartbeats_come_through_and_change_nothing(
    lane: str, delivery: str, request: pytest.FixtureRequest, topic_prefix: str
) -> None:
    bootstrap = request.getfixturevalue(f"{lane}_broker").bootstrap
    sections: dict[str, Any] = {
        "observe": {"port": 0, "heartbeat_s": EVERY_S},
        "worker": {"delivery": delivery},
    }
    agents = ("clicks", "privacy")
    settings = settings_for(bootstrap, topic_prefix, agents, **sections)
    clicks = f"{topic_prefix}clicks"

    async def main() -> None:
        async with running(settings) as worker:
            started_s = time.time()
            await until(lambda: all(fresh(worker, agent, started_s) for agent in agents), 20, "all beat")
            assert value_of(worker, "headrace_records_total") == 0  # with no click at all
            sent = [(b"u%d" % (n % 9), click(n, user=f"u{n % 9}")) for n in range(300)]
            await produce(bootstrap, clicks, list(sent))
            odd: list[Sent] = [(KEY, b"{}", list(HEADERS)), (KEY, None, list(HEADERS))]
            odd.append((KEY, b"no heartbeat by its type", []))  # a bad click like any other
            await send(bootstrap, clicks, odd)
            applied = lambda: value_of(worker, "headrace_applied_total", agent="clicks")  # noqa: E731
            await until(lambda: applied() == 301, 20, "all applied")
            assert value_of(worker, "headrace_records_total", agent="clicks") == 301
            assert value_of(worker, "headrace_dead_letters_total") == 1
            assert value_of(worker, "headrace_users") == 9
            assert value_of(worker, "headrace_channel_wait_seconds_count", agent="clicks") > 0

            silent = settings.model_copy(
                update={"observe": settings.observe.model_copy(update={"heartbeat_s": 0.0})}
            )
            async with running(silent, create=False) as second:
                reader = second._lines[0].reader
                await until(lambda: len(reader.owned) == 2 and second.ready, 20, "they share")
                now_s = time.time()
                await until(lambda: fresh(worker, "clicks", now_s), 20, "the others' series are gone")
                assert heard(second, "clicks") == {} and value_of(second, "headrace_dead_letters_total") == 0
            reader = worker._lines[0].reader
            await until(lambda: len(reader.owned) == 4 and worker.ready, 20, "it has all again")
            ends = ends_of(await read_all(bootstrap, clicks, 303))
            now_s = time.time()
            await until(lambda: fresh(worker, "clicks", now_s), 20, "those are behind it")
            seconds = value_of(worker, "headrace_heartbeat_seconds_sum", agent="clicks")
            count = value_of(worker, "headrace_heartbeat_seconds_count", agent="clicks")
            assert count > 8 and 0 < seconds / count < 2
            assert value_of(worker, "headrace_heartbeat_failures_total") == 0
        log = await read_all(bootstrap, clicks, 303)
        beats = [record for record in log if is_heartbeat(record)]
        assert {record.partition for record in beats} == set(PARTITIONS) and len(log) - len(beats) == 301
        done = await committed(bootstrap, f"{topic_prefix}group.clicks", clicks, 4)
        assert all(done[p] is not None and done[p] >= ends[p] for p in PARTITIONS), (done, ends)

    asyncio.run(main())
