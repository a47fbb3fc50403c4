"""Single decisions of the planner; its invariants under random input are in tests/property."""

import pytest

from models.inference.batching import Lane, Planner
from models.inference.budget import Budget
from models.types import Unit


class Limits:
    """What the planner reads of a task."""

    batch_cost = 100
    max_units = 8


def planner(*tasks: str, window_units: int = 256) -> Planner[str]:
    made: Planner[str] = Planner(window_units)
    for task in tasks or ("t",):
        made.add_task(task, Limits)  # type: ignore[arg-type]
    return made


def put(to: Planner[str], lengths: list[int], task: str = "t", now_s: float = 0.0, priority: int = 0) -> None:
    for length in lengths:
        to.put(task, Unit(length, None), f"{task}{length}", now_s, Lane(priority))


def taken(from_: Planner[str], now_s: float = 0.0) -> list[int]:
    batch = from_.take(now_s)
    return [] if batch is None else [member.unit.length for member in batch.members]


def test_an_idle_device_gets_what_there_is() -> None:
    waiting = planner()
    assert waiting.take(0.0) is None
    put(waiting, [7])
    assert taken(waiting) == [7]
    assert waiting.take(0.0) is None


def test_neighbours_in_length_go_together() -> None:
    waiting = planner()
    put(waiting, [9, 50, 10, 49, 10, 9])
    assert taken(waiting) == [9, 9, 10, 10]
    assert taken(waiting) == [49, 50]


def test_the_oldest_goes_first_even_if_others_would_fill_a_batch_better() -> None:
    waiting = planner()
    put(waiting, [50, *[10] * 20])
    assert 50 in taken(waiting)


def test_a_unit_over_the_budget_goes_alone() -> None:
    waiting = planner()
    put(waiting, [500, 100, 99])
    assert taken(waiting) == [500]
    assert taken(waiting) == [100]


def test_the_window_is_bounded_and_refills_in_order_of_arrival() -> None:
    waiting = planner(window_units=4)
    put(waiting, [40, 1, 41, 2, 42, 43])
    assert taken(waiting) == [40, 41]  # 42 and 43 were not yet seen
    assert taken(waiting) == [1, 2]
    assert taken(waiting) == [42, 43]


def test_tasks_take_turns() -> None:
    waiting = planner("a", "b")
    put(waiting, [60] * 3, "a", now_s=0.0)
    put(waiting, [60] * 3, "b", now_s=1.0)
    order = []
    for step in range(6):
        batch = waiting.take(2.0 + step)
        assert batch is not None
        order.append(batch.task)
    assert order == ["a", "b", "a", "b", "a", "b"]


def test_a_higher_priority_goes_first_but_not_for_ever() -> None:
    waiting = planner("low", "high")
    put(waiting, [60], "low", now_s=0.0)
    order = []
    for step in range(40):
        put(waiting, [60], "high", now_s=step * 0.1, priority=1)
        batch = waiting.take(step * 0.1)
        assert batch is not None
        order.append(batch.task)
    assert order[0] == "high"
    assert 8 <= order.index("low") <= 12  # a step of priority is worth one second, ten batches here


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(KeyError):
        planner().put("other", Unit(1, None), "x", 0.0)


def test_a_drained_planner_gives_back_all() -> None:
    waiting = planner(window_units=2)
    put(waiting, [1, 2, 3])
    assert sorted(left.unit.length for left in waiting.drain()) == [1, 2, 3]
    assert waiting.take(0.0) is None
    assert len(waiting) == 0


def test_a_budget_halves_and_grows_back() -> None:
    budget = Budget(1000, 8)
    budget.out_of_memory()
    budget.out_of_memory()
    assert budget.batch_cost == 250
    for _ in range(100):
        budget.clean()
    assert budget.batch_cost == 262
    for _ in range(100 * 100):
        budget.clean()
    assert budget.batch_cost == 1000


def test_a_budget_never_falls_to_nothing() -> None:
    budget = Budget(3, 8)
    for _ in range(5):
        budget.out_of_memory()
    assert budget.fits(10) == 1
    for _ in range(100 * 3):
        budget.clean()
    assert budget.batch_cost == 3


def test_a_budget_that_holds_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="holds nothing"):
        Budget(0, 1)
