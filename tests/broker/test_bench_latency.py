"""`headrace bench latency`: the row without a worker, which says what the broker and its clients alone take."""

import pytest

from streams.bench.latency import CASES, Plan, run_case
from streams.bench.place import running_place
from streams.sections.worker import Demo

RATE, SECONDS = 200, 1


@pytest.mark.embedded
def test_clicks_come_back_from_a_broker_alone() -> None:
    plan = Plan(RATE, SECONDS, users=50, items=40, partitions=2, linger_ms=1)
    (case,) = (case for case in CASES if case.alone)
    with running_place("embedded", Demo()) as place:
        row = run_case(place, plan, case)
    assert row["case"] == "broker_alone"
    assert row["outputs"] == RATE * SECONDS
    assert 0 < row["p50_ms"] <= row["p99_ms"]
    assert row["cpu_cores_used"] is None
    assert 1 < row["log_batches"] <= 3 * RATE * SECONDS + 200
