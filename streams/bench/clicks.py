"""`headrace bench clicks`: the profile job, and the same with lists, against plain Faust and a bare loop."""

import asyncio
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from streams.bench.cluster import prepare, produce, settings_for
from streams.bench.feed import ClickFeed, draw
from streams.bench.itemtable import item_rows
from streams.bench.place import Place, contend
from streams.bench.result import Result, Row, machine, median_row, ratio
from streams.clock import SystemClock
from streams.errors import Fatal
from streams.feed.records import partition_of
from streams.topology.topics import ITEM_TABLE, prefixed

PARTITIONS = 8
WITHIN_S = 180.0
WARM_CLICKS = 100_000
TOUCHED = {"output": "touched", "transitions": False, "ring": 20}
LISTS = {"output": "lists", "transitions": False, "ring": 20, "list_size": 20}

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is played: some seconds of it, since a run ends with its last offset, which waits up to a second. Plain
    Faust gets a share, since it is slow; rates do not depend on it."""

    clicks: int = 1_000_000
    users: int = 50_000
    items: int = 4_000
    lists_clicks: int = 300_000
    faust_clicks: int = 15_000
    repetitions: int = 1
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Case:
    """One row: who runs, on how many clicks."""

    name: str
    contender: str
    clicks: int
    options: Mapping[str, Any]
    table: bool = False  # publish the item table first


def cases(plan: Plan) -> list[Case]:
    return [
        Case("headrace", "streams.bench.headrace:profile_job", plan.clicks, {"taste": TOUCHED}),
        Case("bare_loop", "streams.bench.bare:profile_job", plan.clicks, {}),
        Case(
            "headrace_lists", "streams.bench.headrace:profile_job", plan.lists_clicks, {"taste": LISTS}, True
        ),
        Case("plain_faust", "streams.bench.plain_faust:profile_job", plan.faust_clicks, {}),
    ]


def run(place: Place, plan: Plan, say: Say) -> Result:
    """All cases, each with topics of its own; repetitions go round the cases, so that drift meets all alike."""
    found: dict[str, list[Row]] = {}
    start_ms = SystemClock().wall_ms() - 3_600_000
    warm_up(place, plan, start_ms, say)
    for _ in range(plan.repetitions):
        for case in cases(plan):
            say(f"{case.name}: {case.clicks:,} clicks")
            feed = ClickFeed(case.clicks, plan.users, plan.items, plan.seed, start_ms)
            found.setdefault(case.name, []).append(run_case(place, case, feed))
    rows = [median_row(rows, "clicks_per_s") for rows in found.values()]
    result = Result("clicks", machine(place.described()), rows)
    result.ratios = {
        "vs_faust": ratio(rows, "clicks_per_s", "headrace", "plain_faust"),
        "vs_bare_loop": ratio(rows, "clicks_per_s", "headrace", "bare_loop"),
        "lists_vs_faust": ratio(rows, "clicks_per_s", "headrace_lists", "plain_faust"),
        # by processor time: what is left to compare where other work shares the machine
        "vs_faust_by_cpu": ratio(rows, "cpu_s_per_million", "plain_faust", "headrace"),
        "vs_bare_loop_by_cpu": ratio(rows, "cpu_s_per_million", "bare_loop", "headrace"),
    }
    return result


def warm_up(place: Place, plan: Plan, start_ms: int, say: Say) -> None:
    """One run that does not count: a broker's first records take it three times as long (its JIT compiler)."""
    say("warming the broker up")
    for contender in ("streams.bench.bare:profile_job", "streams.bench.headrace:profile_job"):
        clicks = min(plan.clicks, WARM_CLICKS)
        feed = ClickFeed(clicks, plan.users, plan.items, plan.seed, start_ms)
        run_case(place, Case("warm-up", contender, clicks, {"taste": TOUCHED}), feed)


def run_case(place: Place, case: Case, feed: ClickFeed) -> Row:
    """One contender on topics of its own. Raises Fatal when it fails, or has not done every click."""
    prefix = f"b{uuid.uuid4().hex[:8]}-"
    asyncio.run(_prepare(place, prefix, case, feed))
    answer = contend(
        place,
        case.contender,
        {
            "bootstrap": place.bootstrap,
            "prefix": prefix,
            "clicks": case.clicks,
            "partitions": PARTITIONS,
            "options": dict(case.options),
        },
        WITHIN_S,
        case.name,
    )
    if answer["clicks"] != case.clicks:
        raise Fatal(f"{case.name} did {answer['clicks']} of {case.clicks} clicks: its figures mean nothing")
    return {"case": case.name, **answer}


async def _prepare(place: Place, prefix: str, case: Case, feed: ClickFeed) -> None:
    settings = settings_for(place.bootstrap, prefix, PARTITIONS)
    await prepare(settings, draw(feed))
    if case.table:
        await publish_table(place, prefix, feed)


async def publish_table(place: Place, prefix: str, feed: ClickFeed, partitions: int = PARTITIONS) -> None:
    """Write the filled item table of all items."""
    rows = item_rows(feed.items, partitions, feed.seed, feed.start_ms - 86_400_000)
    for partition in range(partitions):
        mine = [(key, value) for key, value in rows if partition_of(key, partitions) == partition]
        if mine:
            await produce(
                place.bootstrap,
                prefixed(prefix, ITEM_TABLE),
                partition,
                [k for k, _ in mine],
                [v for _, v in mine],
            )
