"""Commutative events in any order, sent twice, split over partitions and merged: the same bank and the same counts to
1e-5. And what does not belong in a log at all: by rule."""

import math
import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.taste import actions, decay
from models.taste.index import UNKNOWN, ItemIndex
from models.taste.items.neighbours import ItemColumns
from models.taste.readers.rows import HALF_LIVES_S
from models.taste.readers.transitions import Transitions
from models.taste.readers.users import UserRows

START_MS = 1_700_000_000_000
DAY_MS = 86_400_000
CLOSE = 1e-5
KINDS = [kind for kind in actions.KINDS if kind != "undo"]  # which depends on what came before it
Event = tuple[str, str, int]
"""Item, kind, milliseconds after the start."""

EVENTS = st.lists(
    st.tuples(
        st.sampled_from("abcdef"),
        st.sampled_from(KINDS),
        st.one_of(st.integers(0, 90_000), st.integers(0, 50 * DAY_MS)),
    ),
    min_size=1,
    max_size=40,
)


def fold(rows: UserRows, user: str, events: Sequence[Event], ids: Sequence[int] | None = None) -> None:
    kinds = actions.codes_of(kind for _, kind, _ in events)
    first = int(rows.fence[rows.rows_of([user])[0]]) + 1
    rows.fold(
        [user] * len(events),
        rows.items.lookup([item for item, _, _ in events]),
        kinds,
        actions.weights_of(kinds, np.full(len(events), 30.0)),
        START_MS + np.array([at for _, _, at in events], np.int64),
        np.arange(first, first + len(events)),
        ids=None if ids is None else np.array(ids, np.uint64),
    )


def bank(rows: UserRows, users: Sequence[str], refs: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """The sum of users' banks (H, D + 2), each brought to the frames of `refs`."""
    found = np.zeros(rows.bank.shape[1:])
    for row in rows.rows_of(users).tolist():
        scale = np.where(
            rows.refs[row] < 0, 0, np.exp2(np.maximum(rows.refs[row] - refs, -1000).astype(float))
        )
        found += scale[:, None] * rows.bank[row]
    return found


def newest(rows: UserRows, users: Sequence[str]) -> np.ndarray:  # type: ignore[type-arg]
    found: np.ndarray = rows.refs[rows.rows_of(users)].max(axis=0)  # type: ignore[type-arg]
    return found


@settings(max_examples=80, deadline=None)
@given(EVENTS, st.randoms(use_true_random=False), st.integers(0, 40))
def test_order_splits_and_merges_give_the_same_bank(
    events: list[Event], random: "np.random.Generator", cut: int
) -> None:
    rows = UserRows(ItemIndex())
    shuffled = list(events)
    random.shuffle(shuffled)
    fold(rows, "as they came", events)
    fold(rows, "shuffled", shuffled)
    fold(rows, "one part", shuffled[:cut])
    fold(rows, "the other", shuffled[cut:])
    refs = newest(rows, ["as they came"])
    whole = bank(rows, ["as they came"], refs)
    close = CLOSE * sum(abs(float(actions.WEIGHTS[actions.CODES[kind]])) for _, kind, _ in events)
    np.testing.assert_array_equal(newest(rows, ["shuffled"]), refs)
    np.testing.assert_allclose(bank(rows, ["shuffled"], refs), whole, atol=close)
    np.testing.assert_allclose(bank(rows, ["one part", "the other"], refs), whole, atol=close)


@settings(max_examples=60, deadline=None)
@given(EVENTS, st.data())
def test_events_sent_twice_count_once(events: list[Event], data: st.DataObject) -> None:
    once, twice = UserRows(ItemIndex()), UserRows(ItemIndex())
    fold(once, "u", events, range(1, len(events) + 1))
    log = [(event, n + 1) for n, event in enumerate(events)]
    for back in data.draw(
        st.lists(st.integers(1, 15), max_size=6)
    ):  # no further back than what is remembered
        place = data.draw(st.integers(1, len(events)))
        source = max(0, place - back)
        at = max(n for n, (_, own) in enumerate(log) if own == place)
        if at - max(n for n, (_, own) in enumerate(log) if own == source + 1) < 15:
            log.insert(at + 1, (events[source], source + 1))
    fold(twice, "u", [event for event, _ in log], [own for _, own in log])
    np.testing.assert_array_equal(twice.bank[0], once.bank[0])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 200))
def test_counts_of_parts_add_up_to_those_of_the_whole(seed: int, cut: int) -> None:
    index, rng = ItemIndex(), np.random.default_rng(seed)
    names = index.lookup([f"i{n}" for n in range(20)])
    n = 200
    told = Transitions(
        rng.choice(names, n),
        rng.choice(names, (n, 4)),
        np.where(rng.random(n) < 0.2, actions.IMPRESSION, actions.CODES["click"]).astype(np.int8),
        rng.choice([1.0, 2.0, 0.5], n).astype(np.float32),
        START_MS + rng.integers(0, 80 * DAY_MS, n),
        np.zeros(n, np.int64),
        np.arange(n),
    )
    order = rng.permutation(n)
    whole = columns_of(index, told, np.arange(n))
    parts = [columns_of(index, told, np.sort(order[:cut])), columns_of(index, told, np.sort(order[cut:]))]
    merged: dict[str, np.ndarray] = {}  # type: ignore[type-arg]
    for part in parts:
        for name, sums in counts_of(part).items():
            merged[name] = merged.get(name, np.zeros_like(sums)) + sums
    expected = counts_of(whole)
    assert merged.keys() == expected.keys()
    for name, sums in expected.items():
        np.testing.assert_allclose(merged[name], sums, rtol=CLOSE, atol=1e-7)


def columns_of(index: ItemIndex, told: Transitions, at: np.ndarray) -> ItemColumns:  # type: ignore[type-arg]
    made = ItemColumns(index, sources=1)
    part = Transitions(*(getattr(told, name)[at] for name in Transitions.__dataclass_fields__))
    made.fold(part, np.arange(len(at)))
    return made


def counts_of(columns: ItemColumns) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    """By item: popularity, total, impressions, then the weight of each predecessor, all of one moment."""
    found = {}
    for row, name in enumerate(columns.names(np.arange(len(columns)))):
        sums = np.zeros(3 + 22)
        sums[:3] = columns.popularity[row], columns.total[row], columns.impressions[row]
        held = columns.predecessors.keys[row] >= 0
        sums[3 + columns.predecessors.keys[row][held]] = columns.predecessors.weights[row][held]
        found[name] = sums * 2.0 ** (int(columns.ref[row]) - START_MS // (30 * DAY_MS))
    return found


def test_a_reader_with_100000_clicks_has_a_row_like_any_other_and_exact_sums() -> None:
    rng = np.random.default_rng(8)
    n = 100_000
    rows, again = UserRows(ItemIndex()), UserRows(ItemIndex())
    items = rows.items.lookup([f"i{i}" for i in range(500)])[rng.integers(0, 500, n)]
    again.items.lookup([f"i{i}" for i in range(500)])
    kinds = rng.integers(0, len(KINDS), n).astype(np.int8)
    hides = actions.is_hiding(kinds)
    items[hides] = items[hides] % 20 + 1  # 8 bytes each come on top
    weights = actions.weights_of(kinds, np.full(n, 30.0))
    at_ms = START_MS + np.sort(rng.integers(0, 20 * DAY_MS, n))
    began_s = time.process_time()
    rows.fold(["u"] * n, items, kinds, weights, at_ms, np.arange(n), 10)
    assert time.process_time() - began_s < 20  # about 1 s: linear in the clicks
    for start in range(0, n, 9_999):
        part = slice(start, start + 9_999)
        again.fold(
            ["u"] * len(at_ms[part]), items[part], kinds[part], weights[part], at_ms[part], np.arange(n)[part]
        )
    (row,) = rows.encode(np.array([0], np.int32))
    assert row == again.encode(np.array([0], np.int32))[0] and len(row) < 3072
    snapped = decay.snap(weights).astype(np.float64)
    for h, half_life_s in enumerate(HALF_LIVES_S):
        parts = snapped * np.exp2(at_ms / (half_life_s * 1000) - int(rows.refs[0, h]))
        gross = np.abs(parts).sum()
        direct = [parts.sum(), gross, *(parts @ rows.items.codes[items][:, :4])]
        got = [rows.bank[0, h, 64], rows.bank[0, h, 65], *rows.bank[0, h, :4]]
        np.testing.assert_allclose(got, direct, atol=CLOSE * gross)


def test_events_older_than_every_half_life_move_no_sum_and_are_remembered() -> None:
    rows = UserRows(ItemIndex())
    fold(rows, "u", [("a", "click", 2_000 * DAY_MS)])
    before = rows.bank.copy()
    fold(rows, "u", [("b", "like", 0), ("c", "hide", 5)])
    np.testing.assert_array_equal(rows.bank, before)
    items, _, at_ms = rows.recent(rows.rows_of(["u"]), 3)
    assert [rows.items.names[i] for i in items[0]] == ["c", "b", "a"]  # so that they are not listed again
    assert rows.newest_at_ms[0] == at_ms[0, 2]


def test_a_clock_that_runs_backwards_gives_what_one_gives_that_does_not() -> None:
    forwards: list[Event] = [("abcd"[n % 4], "click", 1_000 * n) for n in range(300)]
    rows = UserRows(ItemIndex())
    fold(rows, "forwards", forwards)
    fold(rows, "backwards", forwards[::-1])
    refs = newest(rows, ["forwards"])
    np.testing.assert_array_equal(newest(rows, ["backwards"]), refs)
    np.testing.assert_allclose(
        bank(rows, ["backwards"], refs), bank(rows, ["forwards"], refs), atol=CLOSE * len(forwards)
    )


@pytest.mark.parametrize("dwell_s", [-1.0, -1e300, math.nan, 1e300, math.inf, -math.inf])
def test_a_dwell_of_any_time_weighs_between_nothing_and_its_most(dwell_s: float) -> None:
    kinds = actions.codes_of(["dwell"])
    (weight,) = actions.weights_of(kinds, [dwell_s]).tolist()
    assert weight == (actions.LONGEST_DWELL if dwell_s > 0 else 0.0)


def test_items_beyond_the_bound_are_one_unknown_item_that_says_nothing() -> None:
    index = ItemIndex(max_items=2)
    rows = UserRows(index)
    fold(rows, "u", [(name, "like", 10 * n) for n, name in enumerate("abcdef")])
    assert len(index) == 3 and index.beyond == 4
    known = UserRows(ItemIndex())
    fold(known, "u", [("a", "like", 0), ("b", "like", 10)])
    np.testing.assert_array_equal(rows.bank[0], known.bank[0])
    items, _, _ = rows.recent(rows.rows_of(["u"]), 6)
    assert items[0].tolist() == [UNKNOWN] * 4 + [2, 1]
    value = rows.encode(np.array([0], np.int32))
    rows.load(["other"], value)
    assert rows.encode(rows.rows_of(["other"])) == value
