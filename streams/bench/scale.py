"""`headrace bench scale`: one feed through 1, 2 and 4 workers on one broker, and what a further worker costs.

Workers may use every core but the broker's, so that their number and the machine's cores say what to expect: no more
than cores without the broker's. Throughput is that between a fifth and nine tenths of the feed, when all workers are at
it. Then one worker more joins: how long until it serves its share, from the start of its process, how many rows of
readers it read back for that, and how long that took. At the end, on paper, what a large load needs of such workers.
"""

import asyncio
import os
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from streams.bench.cluster import Committed, prepare, settings_for
from streams.bench.feed import ClickFeed, draw
from streams.bench.place import Child, Place
from streams.bench.result import Result, Row, machine
from streams.clock import SystemClock
from streams.demo.server import HOST, free_ports
from streams.errors import Fatal
from streams.observe.scrape import samples
from streams.plan import Asked, Assumed
from streams.plan import plan as planned
from streams.settings import load
from streams.topology.topics import CLICKS, prefixed

PARTITIONS = 12
WITHIN_S = 180.0
EVERY_S = 0.1
FROM, TO = 0.2, 0.9  # of the feed: what is measured
LARGE_USERS, LARGE_CLICKS_PER_S = 100_000_000, 1_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """The feed, and how many workers play it."""

    clicks: int = 200_000
    users: int = 50_000
    items: int = 4_000
    workers: tuple[int, ...] = (1, 2, 4)
    output: str = "lists"
    seed: int = 1


def run(place: Place, plan: Plan, say: Callable[[str], None]) -> Result:
    """One row a number of workers. Raises Fatal."""
    rows: list[Row] = []
    for count in plan.workers:
        say(f"{count} workers: {plan.clicks:,} clicks")
        rows.append(asyncio.run(_one(place, plan, count)))
    first = rows[0]["clicks_per_s"]
    ratios: dict[str, float | None] = {
        f"workers_{row['workers']}_vs_{rows[0]['workers']}": round(row["clicks_per_s"] / first, 2)
        for row in rows[1:]
    }
    return Result("scale", machine(place.described()), rows, ratios, on_paper(first))


def on_paper(clicks_per_s: int) -> dict[str, Any]:
    """What a large load needs of workers as fast as the one that was measured (`headrace plan`)."""
    asked = {"users": LARGE_USERS, "clicks_per_s": LARGE_CLICKS_PER_S}
    return asked | planned(Asked(**asked), load(), Assumed(worker_clicks_per_s=float(clicks_per_s)))


async def _one(place: Place, plan: Plan, count: int) -> Row:
    prefix = f"b{uuid.uuid4().hex[:8]}-"
    settings = settings_for(place.bootstrap, prefix, PARTITIONS)
    start_ms = SystemClock().wall_ms() - 86_400_000
    await prepare(settings, draw(ClickFeed(plan.clicks, plan.users, plan.items, plan.seed, start_ms)))
    ports = free_ports(count + 1)
    topic = prefixed(settings.kafka.topic_prefix, CLICKS)
    with ExitStack() as stack:
        children = [stack.enter_context(_worker(place, prefix, plan, port)) for port in ports[:count]]
        async with Committed(
            place.bootstrap, f"{settings.kafka.group}.clicks", topic, PARTITIONS
        ) as committed:
            rate = await _rate(committed, plan.clicks, children)
        await _until(
            lambda: sum(map(_owned, ports[:count])) == PARTITIONS, children, "all partitions are owned"
        )
        shares = sorted(map(_owned, ports[:count]))
        joining = await _joined(stack, place, prefix, plan, ports, children)
        for child in children:
            child.stop()
    return {
        "case": f"workers_{count}",
        "workers": count,
        "clicks_per_s": rate,
        "fewest_partitions": shares[0],
        "most_partitions": shares[-1],
        **joining,
    }


async def _rate(committed: Committed, clicks: int, children: Sequence[Child]) -> int:
    """Clicks a second over the middle of the feed."""
    clock, seen = SystemClock(), []
    deadline_s = clock.monotonic_s() + WITHIN_S
    while True:
        total = await committed.total()
        now_s = clock.monotonic_s()
        seen.append((now_s, total))
        for child in children:
            child.check()
        if total >= clicks:
            break
        if now_s > deadline_s:
            raise Fatal(f"{total} of {clicks} clicks within {WITHIN_S:g} s")
        await asyncio.sleep(EVERY_S / 2)
    begins = next(one for one in seen if one[1] >= FROM * clicks)
    ends = next(one for one in seen if one[1] >= TO * clicks)
    if ends[0] <= begins[0]:  # a small feed, done between two looks: from the last look before it began
        begins = [one for one in seen if one[0] < ends[0]][-1]
    return round((ends[1] - begins[1]) / (ends[0] - begins[0]))


async def _joined(
    stack: ExitStack, place: Place, prefix: str, plan: Plan, ports: Sequence[int], children: list[Child]
) -> dict[str, Any]:
    """One worker more: until every partition is open again, and it has some."""
    clock = SystemClock()
    began_s = clock.monotonic_s()
    children.append(stack.enter_context(_worker(place, prefix, plan, ports[-1])))

    def settled() -> bool:
        pages = [_figures(port) for port in ports]
        owned = [page.get("headrace_partitions_owned", 0) for page in pages]
        opened = [page.get("headrace_partitions_open", 0) for page in pages]
        return owned == opened and sum(owned) == PARTITIONS and owned[-1] > 0

    await _until(settled, children, "the further worker has its share")
    took_s = clock.monotonic_s() - began_s
    page = _figures(ports[-1])
    return {
        "join_s": round(took_s, 1),
        "moved_partitions": int(page["headrace_partitions_owned"]),
        "moved_rows": int(page.get("headrace_recovered_records_total", 0)),
        "recovery_s": round(page.get("headrace_recovery_seconds_sum", 0.0), 3),
    }


def _worker(place: Place, prefix: str, plan: Plan, port: int) -> Child:
    sets = {
        "kafka.bootstrap": place.bootstrap,
        "kafka.topic_prefix": prefix,
        "kafka.group": f"{prefix}group",
        "kafka.session_timeout_s": 6,
        "kafka.heartbeat_interval_s": 2,
        "topics.partitions": PARTITIONS,
        "observe.port": port,
        "taste.output": plan.output,
    }
    arguments = [part for name, value in sets.items() for part in ("--set", f"{name}={value}")]
    every = frozenset(range(os.cpu_count() or 1))
    cores = every - place.cores.broker if place.cores.broker else frozenset()
    return Child(f"worker on port {port}", ["streams", *arguments, "worker", "--agents", "clicks"], cores)


def _figures(port: int) -> dict[str, float]:
    """The clicks agent's samples by name; nothing while the worker is not there."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=5) as answer:
            page = answer.read().decode()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return {}
    return {one.name: one.value for one in samples(page) if one.labels.get("agent") == "clicks"}


def _owned(port: int) -> int:
    return int(_figures(port).get("headrace_partitions_owned", 0))


async def _until(condition: Callable[[], bool], children: Sequence[Child], what: str) -> None:
    clock = SystemClock()
    deadline_s = clock.monotonic_s() + WITHIN_S
    while not await asyncio.to_thread(condition):
        for child in children:
            child.check()
        if clock.monotonic_s() > deadline_s:
            raise Fatal(f"not within {WITHIN_S:g} s: {what}")
        await asyncio.sleep(EVERY_S)
