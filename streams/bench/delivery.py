"""`headrace bench delivery`: what exactly-once costs against at-least-once, in one run.

The profile job and the same with lists, in turns, and the delay from click to committed output at a steady rate.
"""

from collections.abc import Callable
from dataclasses import dataclass

from streams.bench import latency
from streams.bench.clicks import LISTS, TOUCHED, Case, run_case, warm_up
from streams.bench.clicks import Plan as ClicksPlan
from streams.bench.feed import ClickFeed
from streams.bench.place import Place
from streams.bench.result import Result, Row, machine, median_row, ratio
from streams.clock import SystemClock
from streams.errors import EnvironmentProblem

DELIVERIES = ("at_least_once", "exactly_once")
JOB = "streams.bench.headrace:profile_job"


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is played (as long as in `clicks`), and how fast where the delay is measured."""

    clicks: int = 1_000_000
    users: int = 50_000
    items: int = 4_000
    lists_clicks: int = 300_000
    rate_per_s: float = 1000.0
    seconds: float = 30.0
    repetitions: int = 1
    seed: int = 1


def run(place: Place, plan: Plan, say: Callable[[str], None]) -> Result:
    """Raises EnvironmentProblem on a broker without transactions."""
    if place.lane != "kafka":
        raise EnvironmentProblem("bench delivery needs transactions: set HEADRACE_KAFKA_LIB (--broker kafka)")
    start_ms = SystemClock().wall_ms() - 3_600_000
    warm_up(place, ClicksPlan(plan.clicks, plan.users, plan.items, seed=plan.seed), start_ms, say)
    found: dict[str, list[Row]] = {}
    for _ in range(plan.repetitions):
        for case in _cases(plan):
            say(f"{case.name}: {case.clicks:,} clicks")
            feed = ClickFeed(case.clicks, plan.users, plan.items, plan.seed, start_ms)
            found.setdefault(case.name, []).append(run_case(place, case, feed))
    rows = [median_row(rows, "clicks_per_s") for rows in found.values()]
    result = Result("delivery", machine(place.described()), rows)
    result.ratios = {
        "exactly_once_vs_at_least_once": ratio(rows, "clicks_per_s", "exactly_once", "at_least_once"),
        "lists_exactly_once_vs_at_least_once": ratio(
            rows, "clicks_per_s", "exactly_once_lists", "at_least_once_lists"
        ),
    }
    delay = latency.Plan(plan.rate_per_s, plan.seconds, users=plan.users, items=plan.items)
    for delivery in DELIVERIES:
        say(f"{delivery}: {plan.rate_per_s:g} clicks/s for {plan.seconds:g} s")
        delayed = latency.Case(f"{delivery}_latency", TOUCHED, delivery)
        rows.append(latency.run_case(place, delay, delayed))
    return result


def _cases(plan: Plan) -> list[Case]:
    small = [
        Case(delivery, JOB, plan.clicks, {"taste": TOUCHED, "delivery": delivery}) for delivery in DELIVERIES
    ]
    lists = [
        Case(f"{delivery}_lists", JOB, plan.lists_clicks, {"taste": LISTS, "delivery": delivery}, True)
        for delivery in DELIVERIES
    ]
    return small + lists
