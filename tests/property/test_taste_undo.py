"""`undo`: any history with an event and its undo equals the history without it, in the sums, in the ring and in
what the item side is told; an undo that finds nothing changes nothing and is counted."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.taste import actions
from models.taste.index import ItemIndex
from models.taste.items.neighbours import ItemColumns
from models.taste.readers.fold import Folded
from models.taste.readers.transitions import Transitions, decode, encode, transitions
from models.taste.readers.users import UserRows
from undone import left_of

START_MS = 1_700_000_000_000
DAY_MS = 86_400_000
Event = tuple[str, str, int]
"""Item, kind, milliseconds after the start."""


def fold(rows: UserRows, events: Sequence[Event], first: int = 0, window: int = 10) -> tuple[Folded, tuple]:  # type: ignore[type-arg]
    items = rows.items.lookup([item for item, _, _ in events])
    kinds = actions.codes_of(kind for _, kind, _ in events)
    weights = actions.weights_of(kinds, np.full(len(events), 25.0))
    at_ms = START_MS + np.array([at for _, _, at in events], np.int64)
    offsets = np.arange(first, first + len(events))
    found = rows.fold(["u"] * len(events), items, kinds, weights, at_ms, offsets, window)
    return found, (items, kinds, weights, at_ms, offsets, 0)


def hidden_by(rows: UserRows) -> list[str | None]:
    found = rows.hidden.of(rows.rows_of(["u"]))
    return [rows.items.names[item] for kept in found.values() for item in kept.items.tolist()]


def ring_of(rows: UserRows) -> list[tuple[str | None, int, int, float]]:
    (row,) = rows.rows_of(["u"]).tolist()
    pushed = int(rows.pushed[row])
    slots = [n % rows.ring for n in range(max(0, pushed - rows.ring), pushed)]
    return [
        (
            rows.items.names[rows.ring_items[row, slot]],
            int(rows.ring_kinds[row, slot]),
            int(rows.ring_at_ms[row, slot]),
            float(actions.signed(rows.ring_kinds[row, slot], rows.ring_sizes[row, slot])),
        )
        for slot in slots
    ]


def sums_at(rows: UserRows, refs: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """The bank (H, D + 2) in the frames of `refs`, which are no older."""
    (row,) = rows.rows_of(["u"])
    scale = np.exp2(np.maximum((rows.refs[row] - refs).astype(np.float64), -1000))
    return np.where(rows.refs[row] < 0, 0, scale)[:, None] * rows.bank[row].astype(np.float64)


def assert_same_sums(one: UserRows, other: UserRows, everything: float) -> None:
    (row,) = one.rows_of(["u"])
    refs = np.maximum(one.refs[row], other.refs[other.rows_of(["u"])[0]])
    np.testing.assert_allclose(sums_at(one, refs), sums_at(other, refs), atol=1e-5 * everything)


AT = st.one_of(st.integers(0, 5_000), st.integers(0, 40 * DAY_MS), st.sampled_from([0, 60_000, DAY_MS]))
OTHERS = st.tuples(st.sampled_from("abcd"), st.sampled_from(actions.KINDS), AT)
TAKEN = st.tuples(
    st.just("x"), st.sampled_from([k for k in actions.KINDS if k not in ("impression", "undo")]), AT
)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(OTHERS, max_size=20),
    TAKEN,
    st.lists(OTHERS, max_size=12),
    st.lists(OTHERS, max_size=6),
    st.data(),
)
def test_any_history_with_an_event_and_its_undo_equals_the_history_without(
    before: list[Event], event: Event, between: list[Event], after: list[Event], data: st.DataObject
) -> None:
    whole = [*before, event, *between, ("x", "undo", data.draw(AT)), *after]
    cut = data.draw(st.integers(0, len(whole)))
    taken, never = UserRows(ItemIndex()), UserRows(ItemIndex())
    fold(taken, whole[:cut])
    fold(taken, whole[cut:], cut)
    fold(never, [*before, *between, *after])
    assert ring_of(taken) == ring_of(never)
    assert hidden_by(taken) == hidden_by(never)
    assert_same_sums(taken, never, everything=sum(_weight(kind) for _, kind, _ in whole))


@settings(max_examples=50, deadline=None)
@given(st.lists(OTHERS, max_size=60), st.sampled_from([1, 3, 8]))
def test_it_takes_back_what_a_plain_loop_takes_back(events: list[Event], ring: int) -> None:
    rows, plain = UserRows(ItemIndex(), ring=ring), UserRows(ItemIndex(), ring=ring)
    found, _ = fold(rows, events)
    left = left_of([(item, kind) for item, kind, _ in events], ring)
    assert found.in_vain + found.shown_again == len(left.in_vain)
    assert found.undone.places.tolist() == sorted(left.pairs)
    for n, kind, at_ms in zip(
        found.undone.places.tolist(), found.undone.kinds.tolist(), found.undone.at_ms.tolist(), strict=True
    ):
        assert (actions.KINDS[kind], at_ms - START_MS) == events[left.pairs[n]][1:]
    fold(plain, [events[n] for n in left.counting])
    names = [(item, at + START_MS) for item, _, at in (events[n] for n in left.ring)]
    assert [(item, at) for item, _, at, _ in ring_of(rows)] == names
    if len(rows):
        assert_same_sums(rows, plain, everything=sum(_weight(kind) for _, kind, _ in events))
        (row,) = rows.rows_of(["u"])
        assert rows.fence[row] == len(events) - 1


def _weight(kind: str) -> float:
    return max(abs(float(actions.WEIGHTS[actions.CODES[kind]])), 0.01)


def columns_of(index: ItemIndex, told: Sequence[Transitions]) -> ItemColumns:
    columns, done = ItemColumns(index, sources=1), 0
    for part in told:
        names = [index.names[i] or "" for i in part.items.tolist()]
        read = decode(names, encode(part, index), index, 10)  # as it travels
        columns.fold(read, np.arange(done, done + len(names)))
        done += len(names)
    return columns


def taken_out(found: Transitions, offsets: set[int]) -> Transitions:
    keep = np.array([offset not in offsets for offset in found.source_offsets.tolist()], np.bool_)
    return Transitions(*(getattr(found, name)[keep] for name in Transitions.__dataclass_fields__))


@settings(max_examples=80, deadline=None)
@given(st.lists(OTHERS, max_size=15), TAKEN, st.lists(OTHERS, max_size=5))
def test_the_item_side_is_left_as_if_it_had_never_heard_of_it(
    before: list[Event], event: Event, between: list[Event]
) -> None:
    between = [one for one in between if one[1] != "undo"]  # the ring before the event is what it was
    before = [one for one in before if one[0] != "x"]
    events = [*before, event, *between, ("x", "undo", 7)]
    rows = UserRows(ItemIndex())
    found, given_to = fold(rows, events)
    told = transitions(found, *given_to)
    own = {len(before), len(events) - 1}
    parted = int(np.count_nonzero((told.kinds == actions.UNDO) & (told.source_offsets == len(events) - 1)))
    assert len(taken_out(told, own).items) == len(told.items) - (2 if _speaks(event[1]) else 0) - parted
    with_, without = columns_of(rows.items, [told]), columns_of(rows.items, [taken_out(told, own)])
    (row,) = with_.rows_of(["x"]).tolist()
    (other,) = without.rows_of(["x"]).tolist()
    assert with_.popularity[row] == pytest.approx(0, abs=1e-5) == without.popularity[other]
    assert with_.total[row] == pytest.approx(0, abs=1e-5)
    assert (with_.predecessors.keys[row] < 0).all() or with_.predecessors.weights[row].max() < 1e-5
    for name in "abcd":
        a, b = with_.rows_of([name]).tolist()[0], without.rows_of([name]).tolist()[0]
        scale = 2.0 ** (int(with_.ref[a]) - int(without.ref[b]))
        assert with_.popularity[a] == pytest.approx(without.popularity[b] / scale, rel=1e-5)
    met = [item for item, kind, _ in between if _speaks(kind)]
    assert parted == (len(set(met)) if _speaks(event[1]) else 0)
    for name in {one for one in met if met.count(one) == 1}:  # several are taken back as if at one time
        a = with_.rows_of([name]).tolist()[0]
        gone = with_.predecessors.keys[a] == rows.items.lookup(["x"])[0]
        assert not (gone & (np.abs(with_.predecessors.weights[a]) > 1e-4)).any()


def _speaks(kind: str) -> bool:
    return bool(actions.is_positive(actions.codes_of([kind]))[0])


@pytest.mark.parametrize(
    "events",
    [
        [("a", "undo", 5)],
        [("b", "click", 0), ("a", "undo", 5)],
        [("a", "impression", 0), ("a", "undo", 5)],
        [("a", "click", 0), ("a", "undo", 5), ("a", "undo", 6)],
        [("a", "click", 0), *[("b", "click", n) for n in range(8)], ("a", "undo", 99)],  # out of the ring
    ],
)
def test_an_undo_that_finds_nothing_changes_nothing_but_the_fence(events: list[Event]) -> None:
    rows = UserRows(ItemIndex(), ring=8)
    fold(rows, events[:-1])
    had, sums = ring_of(rows), rows.bank.copy()
    found, given_to = fold(rows, events[-1:], len(events) - 1)
    assert (
        found.in_vain == 1 and not found.shown_again and found.applied.all() and not len(found.undone.places)
    )
    assert ring_of(rows) == had
    np.testing.assert_array_equal(rows.bank, sums)
    assert rows.fence[0] == len(events) - 1
    assert not len(transitions(found, *given_to).items)


def test_an_item_beyond_the_bound_is_never_taken_for_another_one() -> None:
    rows = UserRows(ItemIndex(max_items=1))
    found, _ = fold(rows, [("a", "click", 0), ("b", "click", 1), ("c", "undo", 2)])
    assert found.in_vain == 1 and len(ring_of(rows)) == 2


def test_a_repeated_action_is_taken_back_one_at_a_time_the_last_first() -> None:
    rows = UserRows(ItemIndex())
    events: list[Event] = [("a", "click", 0), ("a", "like", 5), ("a", "hide", 9)]
    fold(rows, events)
    for n, left in enumerate((2, 1, 0)):
        fold(rows, [("a", "undo", 100)], 3 + n)
        assert [kind for _, kind, _, _ in ring_of(rows)] == [
            actions.CODES[kind] for _, kind, _ in events[:left]
        ]
    assert np.abs(rows.bank[0]).max() < 1e-5


def test_what_the_event_had_led_to_is_parted_from_it_and_stays_as_popular() -> None:
    rows = UserRows(ItemIndex())
    events: list[Event] = [
        ("a", "click", 0),
        ("x", "click", 1),
        ("b", "click", 2),
        ("c", "skip", 3),
        ("d", "like", 4),
    ]
    events += [("b", "click", 5), ("x", "undo", 6), ("e", "click", 7)]
    found, given_to = fold(rows, events)
    told = transitions(found, *given_to)
    columns = columns_of(rows.items, [told])

    def led_to(name: str) -> dict[str | None, float]:
        (row,) = columns.rows_of([name]).tolist()
        keys, weights = columns.predecessors.keys[row].tolist(), columns.predecessors.weights[row].tolist()
        return {rows.items.names[k]: w for k, w in zip(keys, weights, strict=True) if k > 0 and abs(w) > 1e-4}

    assert led_to("b").keys() == {"a", "d"} and led_to("d").keys() == {"a", "b"}
    assert led_to("e").keys() == {"a", "b", "d"} and led_to("x") == {}
    popular = (
        columns.popularity[columns.rows_of(["b", "d", "x"])] / columns.popularity[columns.rows_of(["a"])]
    )
    np.testing.assert_allclose(popular, [2, 2, 0], atol=1e-5)
