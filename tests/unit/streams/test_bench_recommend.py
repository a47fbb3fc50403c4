"""The recommend benchmark's contenders on a small world: every place is filled, and figures are of what was asked."""

import asyncio

import pytest

from streams.bench.child import Job
from streams.bench.clicks import LISTS
from streams.bench.groups import SIZES, groups_job
from streams.bench.listing import lists_job, memory_job
from streams.bench.recommend import Plan, cases


@pytest.mark.parametrize(("together", "named"), [(8, False), (1, True)])
def test_every_click_gets_a_full_list(together: int, named: bool) -> None:
    options = {"users": 50, "items": 120, "together": together, "named": named, "seed": 3}
    found = asyncio.run(lists_job(Job("", "", 100, options=options)))

    assert 90 <= found["clicks"] <= 100 and found["places_filled"] == 1.0
    assert found["clicks_per_s"] > 0 and found["clicks_per_cpu_s"] > 0
    assert ("p99_ms" in found) == (together == 1)


def test_a_larger_group_costs_more_and_each_of_its_clicks_less() -> None:
    options = {"users": 80, "items": 300, "seed": 3, "taste": LISTS}
    found = asyncio.run(groups_job(Job("127.0.0.1:9", "", 640, options=options)))

    assert list(found) == [str(size) for size in SIZES]
    assert found["64"] > found["8"] > found["64"] / 64 * 8 * 0.5 > 0
    assert found["1"] > found["64"] / 64


def test_memory_is_of_readers_with_full_rings_and_within_its_bound() -> None:
    found = asyncio.run(memory_job(Job("", "", 2000, options={"users": 1, "items": 100, "seed": 3})))

    assert found["users"] == 2000
    assert found["state_bytes_per_user"] <= 3500  # columns grow by a quarter beyond what is used


def test_the_cases_are_those_of_the_promise() -> None:
    found = {case.name: case for case in cases(Plan())}

    assert found["batches"].items == found["single"].items == 4000 and found["single"].together == 1
    assert found["batches_many_items"].items == 65_536 and found["memory"].clicks == 1_000_000
