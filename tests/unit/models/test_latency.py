"""What is learnt about the time of a batch, and what deadlines make of it."""

import random

import pytest

from models.inference.batching import AGED_S, Batch, Lane, Planner
from models.inference.latency import Latency, Line
from models.inference.window import Waiting
from models.types import Unit


class Limits:
    """What the planner reads of a task."""

    batch_cost = 1000
    max_units = 100


def learnt(slope: float = 0.001, base: float = 0.05, noise: float = 0.0) -> Latency:
    chance = random.Random(1)
    made = Latency()
    for _ in range(100):
        cost = chance.randrange(100, 1000)
        made.observe(10, cost, slope * cost + base + chance.uniform(-noise, noise))
    return made


def planner(*tasks: str, slope: float = 0.001, base: float = 0.0) -> Planner[str]:
    """One whose tasks take so long, as it has learnt."""
    made: Planner[str] = Planner()
    for task in tasks:
        made.add_task(task, Limits)  # type: ignore[arg-type]
        for count in (2, 5, 10, 20, 40):
            batch = Batch(task, tuple(Waiting(Unit(10, None), "seen", 0.0) for _ in range(count)))
            made.ran(batch, slope * 10 * count + base)
    return made


def put(
    to: Planner[str], task: str, count: int, lane: Lane, now_s: float = 0.0, submitted_s: float = 0.0
) -> None:
    for _ in range(count):
        to.put(task, Unit(10, None), task, now_s, lane, submitted_s)


def test_the_line_is_found() -> None:
    line = learnt().line(10)
    assert line is not None
    assert (line.seconds_per_cost, line.seconds) == (pytest.approx(0.001), pytest.approx(0.05))
    noisy = learnt(noise=0.02).line(10)
    assert noisy is not None
    assert noisy.of(500) == pytest.approx(0.55, rel=0.05)
    assert line.cost_within(0.55) == pytest.approx(500)
    assert line.cost_within(0.01) < 0


def test_nothing_is_said_before_enough_was_seen() -> None:
    made = Latency()
    made.observe(10, 100, 0.1)
    made.observe(10, 200, 0.2)
    assert made.line(10) is None
    made.observe(10, 300, 0.3)
    assert made.line(10) is not None


def test_lengths_have_lines_of_their_own_and_borrow_until_then() -> None:
    made = Latency()
    for cost in (100, 200, 300, 400):
        made.observe(10, cost, cost * 0.001)
    assert made.line(500) == made.line(10)
    for cost in (100, 200, 300, 400):
        made.observe(500, cost, cost * 0.004)
    assert made.line(500) == Line(pytest.approx(0.004), pytest.approx(0.0))  # type: ignore[arg-type]
    assert made.line(10) == Line(pytest.approx(0.001), pytest.approx(0.0))  # type: ignore[arg-type]


def test_a_pause_of_the_machine_does_not_bend_the_line() -> None:
    made = learnt()
    made.observe(10, 500, 60.0)
    line = made.line(10)
    assert line is not None
    assert line.of(500) < 2 * 0.55


def test_what_changed_is_learnt_anew() -> None:
    made = learnt()
    for cost in [200, 400, 600, 800] * 50:
        made.observe(10, cost, 0.002 * cost)
    line = made.line(10)
    assert line is not None
    assert line.of(500) == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize(
    ("costs", "seconds"), [([100] * 5, [0.1] * 5), ([100, 900, 100, 900], [0.9, 0.1] * 2)]
)
def test_neither_part_is_ever_negative(costs: list[int], seconds: list[float]) -> None:
    made = Latency()
    for cost, took_s in zip(costs, seconds, strict=True):
        made.observe(10, cost, took_s)
    line = made.line(10)
    assert line is not None
    assert line.seconds_per_cost >= 0 and line.seconds >= 0
    assert 0.99 * min(seconds) <= line.of(100) <= 1.01 * max(seconds)


def test_memory_does_not_grow_with_what_is_seen() -> None:
    made = Latency()
    for length in range(200_000):
        made.observe(length << 10, 1, 1.0)
    assert len(made._by_class) == 24


def test_a_batch_is_no_larger_than_its_deadline_allows() -> None:
    waiting = planner("t")
    put(waiting, "t", 60, Lane(deadline_s=0.3))
    batch = waiting.take(0.1)  # 0.2 s are left: twenty units of 10 ms
    assert batch is not None
    assert len(batch.members) == pytest.approx(20, abs=1)
    without = planner("t")
    put(without, "t", 60, Lane())
    batch = without.take(0.1)
    assert batch is not None
    assert len(batch.members) == 60


def test_what_is_late_is_done_in_full_batches() -> None:
    waiting = planner("t")
    put(waiting, "t", 60, Lane(deadline_s=0.3))
    batch = waiting.take(5.0)
    assert batch is not None
    assert len(batch.members) == 60


def test_one_tasks_batch_leaves_time_for_anothers_deadline() -> None:
    waiting = planner("slow", "quick")
    put(waiting, "slow", 60, Lane())
    put(waiting, "quick", 1, Lane(deadline_s=0.3), now_s=0.01, submitted_s=0.01)
    batch = waiting.take(0.01)
    assert batch is not None
    assert (batch.task, len(batch.members)) == ("slow", pytest.approx(29, abs=1))


def test_what_would_be_missed_goes_first_but_not_past_the_aged() -> None:
    waiting = planner("slow", "quick")
    put(waiting, "slow", 60, Lane())
    put(waiting, "quick", 1, Lane(deadline_s=0.015), now_s=1.0, submitted_s=1.0)
    batch = waiting.take(1.0)
    assert batch is not None
    assert batch.task == "quick"
    aged = planner("slow", "quick")
    put(aged, "slow", 60, Lane())
    now_s = AGED_S + 0.5
    put(aged, "quick", 1, Lane(deadline_s=0.015), now_s=now_s, submitted_s=now_s)
    batch = aged.take(now_s)
    assert batch is not None
    assert batch.task == "slow"


def test_a_stream_of_hurried_units_starves_nobody() -> None:
    waiting = planner("slow", "quick")
    put(waiting, "slow", 1, Lane())
    now_s = 0.0
    while now_s < AGED_S + 2:
        put(waiting, "quick", 1, Lane(deadline_s=0.015), now_s=now_s, submitted_s=now_s)
        batch = waiting.take(now_s)
        assert batch is not None
        if batch.task == "slow":
            return
        now_s += 0.01
    raise AssertionError("starved")


def test_the_time_to_drain_is_predicted() -> None:
    waiting = planner("t", base=0.02)
    assert waiting.drain_s() == 0.0
    put(waiting, "t", 250, Lane())
    assert waiting.drain_s() == pytest.approx(2.5 + 3 * 0.02, rel=0.05)
    took_s = 0.0
    while (batch := waiting.take(0.0)) is not None:
        took_s += 0.001 * 10 * len(batch.members) + 0.02
    assert took_s == pytest.approx(2.5 + 3 * 0.02, rel=0.05)
    assert waiting.drain_s() == 0.0
