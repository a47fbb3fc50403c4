"""`headrace bench recommend`: click -> update -> exact top 20 with filters and reasons, on one core; memory a reader.

The pure parts of the clicks agent in their order, without a broker: fold a group of clicks of different readers, its
transitions, then the lists of 256 at a time. `single` is one click at a time. `group of N` is what the agent decides of
one small group, by processor time (`streams.bench.groups`). `end_to_end` is the worker itself through the broker at a
steady rate (as in `latency`). Rates by wall clock, and by processor second where other work shares the machine.
"""

from dataclasses import dataclass
from typing import Any

from models.taste.lists.choose import TOGETHER
from streams.bench import latency
from streams.bench.clicks import LISTS, PARTITIONS, Say
from streams.bench.place import Place, contend
from streams.bench.result import Result, Row, machine, median_row

WITHIN_S = 600.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is played."""

    clicks: int = 30_000
    users: int = 50_000
    items: int = 4_000
    many_items: int = 65_536
    many_clicks: int = 3_000
    single_clicks: int = 1_000
    memory_users: int = 1_000_000
    group_users: int = 5_000
    group_clicks: int = 6_000
    rate_per_s: float = 1000.0
    seconds: float = 20.0
    repetitions: int = 1
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Case:
    """One row of what runs without a broker; `named`: reasons as objects with names, ready to be encoded."""

    name: str
    function: str
    clicks: int
    items: int
    together: int
    named: bool = True


def cases(plan: Plan) -> list[Case]:
    return [
        Case("batches", "lists_job", plan.clicks, plan.items, TOGETHER, False),
        Case("batches_named", "lists_job", plan.clicks, plan.items, TOGETHER),
        Case("batches_many_items", "lists_job", plan.many_clicks, plan.many_items, TOGETHER, False),
        Case("single", "lists_job", plan.single_clicks, plan.items, 1),
        Case("memory", "memory_job", plan.memory_users, plan.items, 1),
    ]


def run(place: Place, plan: Plan, say: Say) -> Result:
    """All cases; the fastest of `repetitions` is the (lower) median by rate."""
    rows = []
    for case in cases(plan):
        say(f"{case.name}: {case.clicks:,} {'readers' if case.name == 'memory' else 'clicks'}")
        count = 1 if case.name == "memory" else plan.repetitions
        found = [_one(place, plan, case) for _ in range(count)]
        rows.append(found[0] if count == 1 else median_row(found, "clicks_per_s"))
    rows += groups(place, plan, say)
    say(f"end_to_end: {plan.rate_per_s:g} clicks/s for {plan.seconds:g} s")
    steady = latency.Plan(plan.rate_per_s, plan.seconds, plan.users, plan.items, plan.seed)
    rows.append(latency.run_case(place, steady, latency.Case("end_to_end", LISTS)) | {"items": plan.items})
    return Result("recommend", machine(place.described()), rows)


def groups(place: Place, plan: Plan, say: Say) -> list[Row]:
    """What one group costs, a row a size."""
    say("groups: 1 to 64 clicks")
    options = {"users": plan.group_users, "items": plan.items, "seed": plan.seed, "taste": LISTS}
    found = _contend(place, "streams.bench.groups:groups_job", plan.group_clicks, options, "groups")
    return [
        {
            "case": f"group of {size}",
            "items": plan.items,
            "clicks": int(size),
            "clicks_per_cpu_s": round(int(size) * 1000 / cpu_ms),
            "cpu_ms_per_group": cpu_ms,
        }
        for size, cpu_ms in found.items()
    ]


def _one(place: Place, plan: Plan, case: Case) -> Row:
    options: dict[str, Any] = {
        "users": plan.users,
        "items": case.items,
        "together": case.together,
        "named": case.named,
        "seed": plan.seed,
    }
    answer = _contend(place, f"streams.bench.listing:{case.function}", case.clicks, options, case.name)
    return {"case": case.name, "items": case.items, **answer}


def _contend(place: Place, function: str, clicks: int, options: dict[str, Any], name: str) -> dict[str, Any]:
    job = {
        "bootstrap": place.bootstrap,
        "prefix": "",
        "clicks": clicks,
        "partitions": PARTITIONS,
        "options": options,
    }
    return contend(place, function, job, WITHIN_S, name)
