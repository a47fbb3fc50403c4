"""Whatever arrives in whatever order: each unit leaves once, no batch is over budget, nothing starves."""

from hypothesis import given
from hypothesis import strategies as st

from models.inference.batching import Lane, Planner
from models.types import Unit

# (task, length, priority) arrives, or None: the device asks for a batch.
EVENTS = st.lists(
    st.none() | st.tuples(st.sampled_from("ab"), st.integers(0, 130), st.integers(0, 2)), max_size=120
)


class Limits:
    """What the planner reads of a task."""

    def __init__(self, batch_cost: int, max_units: int) -> None:
        self.batch_cost = batch_cost
        self.max_units = max_units


@given(EVENTS, st.integers(1, 200), st.integers(1, 10), st.integers(1, 20))
def test_each_unit_leaves_once_within_budget_and_oldest_first(
    events: list[tuple[str, int, int] | None], batch_cost: int, max_units: int, window_units: int
) -> None:
    planner: Planner[int] = Planner(window_units)
    for task in "ab":
        planner.add_task(task, Limits(batch_cost, max_units))  # type: ignore[arg-type]
    waiting: dict[tuple[str, int], list[int]] = {}
    priorities: dict[int, int] = {}
    left: list[int] = []

    def take(now_s: float) -> None:
        batch = planner.take(now_s)
        if batch is None:
            assert not any(waiting.values()), "the device was left idle"
            return
        assert batch.longest * len(batch.members) <= batch_cost or len(batch.members) == 1
        assert len(batch.members) <= max_units
        tickets = [member.ticket for member in batch.members]
        queue = waiting[batch.task, priorities[tickets[0]]]
        assert queue[0] in tickets, "the oldest was passed over"
        for ticket in tickets:
            queue.remove(ticket)
        left.extend(tickets)

    for number, event in enumerate(events):
        if event is None:
            take(float(number))
        else:
            task, length, priority = event
            planner.put(task, Unit(length, None), number, float(number), Lane(priority))
            waiting.setdefault((task, priority), []).append(number)
            priorities[number] = priority
    while len(planner):
        take(float(len(events)))
    assert sorted(left) == sorted(priorities)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 60)), min_size=1, max_size=60),
    st.integers(1, 8),
    st.floats(0.001, 10.0),
)
def test_no_queue_waits_longer_than_one_turn_of_the_others(
    arrivals: list[tuple[str, int]], flood: int, batch_s: float
) -> None:
    """With Q queues of one priority, a queue that has work is served at least once in any Q batches."""
    planner: Planner[None] = Planner()
    for task in "abc":
        planner.add_task(task, Limits(60, 4))  # type: ignore[arg-type]
    passed_over = dict.fromkeys("abc", 0)
    has_work = dict.fromkeys("abc", 0)
    now_s = 0.0
    for task, length in arrivals:
        planner.put(task, Unit(length, None), None, now_s)
        has_work[task] += 1
        for _ in range(flood):  # task a never runs dry
            planner.put("a", Unit(1, None), None, now_s)
            has_work["a"] += 1
        batch = planner.take(now_s)
        assert batch is not None
        now_s += batch_s
        has_work[batch.task] -= len(batch.members)
        for other in "abc":
            waits = other != batch.task and has_work[other] > 0
            passed_over[other] = passed_over[other] + 1 if waits else 0
            assert passed_over[other] <= 3


@given(
    st.lists(st.booleans(), min_size=1, max_size=80),
    st.floats(0.01, 2.0),
)
def test_the_lowest_priority_waits_a_bounded_time(high_arrives: list[bool], batch_s: float) -> None:
    planner: Planner[str] = Planner(priority_step_s=1.0)
    planner.add_task("t", Limits(10, 1))  # type: ignore[arg-type]
    planner.put("t", Unit(10, None), "low", 0.0, lane=Lane(0))
    now_s = 0.0
    for arrives in [*high_arrives, *[True] * 400]:
        if arrives:
            planner.put("t", Unit(10, None), "high", now_s, lane=Lane(2))
        batch = planner.take(now_s)
        assert batch is not None
        if batch.members[0].ticket == "low":
            assert now_s <= 2.0 + batch_s  # two steps of a second, and the batch that ran meanwhile
            return
        now_s += batch_s
    raise AssertionError("the lowest priority starved")
