"""`headrace bench transport`: the batch reader alone, decoding, against plain Faust and raw aiokafka.

Raw `getmany` decodes nothing: it is the ceiling of any Python consumer on this client.
"""

from dataclasses import dataclass

from streams.bench.clicks import Case, Say, run_case
from streams.bench.feed import ClickFeed
from streams.bench.place import Place
from streams.bench.result import Result, Row, machine, median_row, ratio
from streams.clock import SystemClock

USERS, ITEMS = 50_000, 4_000
WARM_RECORDS = 100_000


@dataclass(frozen=True, slots=True)
class Plan:
    """Records of the fast contenders and of plain Faust, which gets a share, since it is slow."""

    records: int = 600_000
    faust_records: int = 30_000
    repetitions: int = 1
    seed: int = 1


def cases(plan: Plan) -> list[Case]:
    return [
        Case("headrace_reader", "streams.bench.headrace:reader_alone", plan.records, {}),
        Case("raw_aiokafka", "streams.bench.bare:getmany", plan.records, {}),
        Case("plain_faust", "streams.bench.plain_faust:typed_agent", plan.faust_records, {}),
    ]


def run(place: Place, plan: Plan, say: Say) -> Result:
    """All cases on topics of their own, after one run that warms the broker up."""
    start_ms = SystemClock().wall_ms() - 86_400_000
    say("warming the broker up")
    warm = Case("warm-up", "streams.bench.bare:getmany", min(plan.records, WARM_RECORDS), {})
    run_case(place, warm, ClickFeed(warm.clicks, USERS, ITEMS, plan.seed, start_ms))
    found: dict[str, list[Row]] = {}
    for _ in range(plan.repetitions):
        for case in cases(plan):
            say(f"{case.name}: {case.clicks:,} records")
            feed = ClickFeed(case.clicks, USERS, ITEMS, plan.seed, start_ms)
            found.setdefault(case.name, []).append(_in_records(run_case(place, case, feed)))
    rows = [median_row(rows, "records_per_s") for rows in found.values()]
    result = Result("transport", machine(place.described()), rows)
    result.ratios = {
        "vs_faust": ratio(rows, "records_per_s", "headrace_reader", "plain_faust"),
        "vs_raw_aiokafka": ratio(rows, "records_per_s", "headrace_reader", "raw_aiokafka"),
    }
    return result


def _in_records(row: Row) -> Row:
    names = {"clicks": "records", "clicks_per_s": "records_per_s"}
    return {names.get(name, name): value for name, value in row.items()}
