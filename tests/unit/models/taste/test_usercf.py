"""The classic user-user formula: golden values, any way there gives the same bits, who is forgotten leaves nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import BadInput
from models.taste.alike import usercf
from models.taste.alike.nearest import NearestReaders
from models.taste.alike.usercf import NOBODY, CosineRows, Profile, deltas, latest, of, with_value, without

R = np.array([[5, 3, 4, 2], [3, 4, 5, 1], [2, 1, 3, 4], [4, 2, 1, 5]], np.float64)
SIM_1 = [1, 0.933715, 0.819892, 0.802572]
PRED_1 = [12.651216, 9.159894, 11.930820, 10.226143]
PRED_1_WITHOUT_SELF = [7.651216, 6.159894, 7.930820, 8.226143]
EVERY = np.arange(4, dtype=np.int32)


def batch(values: np.ndarray) -> np.ndarray:
    """pred of all readers and items by the formula as it is written, readers x readers."""
    length = np.sqrt((values**2).sum(axis=1))
    dots = values @ values.T
    both = np.outer(length, length)
    similar = np.divide(dots, both, out=np.zeros_like(dots), where=both > 0)
    return similar @ values


def profiles(values: np.ndarray) -> list[Profile]:
    return [of(np.flatnonzero(row).astype(np.int32), row[row != 0]) for row in values]


def table(all_of: list[Profile], raters: bool = False) -> CosineRows:
    rows = CosineRows()
    for one in all_of:
        rows.apply(deltas(NOBODY, one, raters))
    return rows


def test_golden_values() -> None:
    rows = table(profiles(R))
    one = of(EVERY, R[0])

    assert rows.scores(one, 4) == pytest.approx(PRED_1, abs=1e-6)
    assert rows.scores(one, 4) - R[0] == pytest.approx(PRED_1_WITHOUT_SELF, abs=1e-6)
    length = np.sqrt((R**2).sum(axis=1))
    assert R @ R[0] / length / length[0] == pytest.approx(SIM_1, abs=1e-6)


def test_golden_similarities_by_the_nearest_readers() -> None:
    """One reader in the table at a time: its sim times its values; and all four are the classic row again."""
    for other, similar in enumerate(SIM_1):
        near = NearestReaders()
        near.change("v", of(EVERY, R[other]), 0)
        assert near.scores(of(EVERY, R[0]), 4) == pytest.approx(similar * R[other], abs=5e-6)
    near = NearestReaders()
    for reader, values in enumerate(R):
        near.change(reader, of(EVERY, values), 0)
    assert near.scores(of(EVERY, R[0]), 4) == pytest.approx(PRED_1, abs=1e-6)
    assert near.scores(of(EVERY, R[0]), 4, reader=0) == pytest.approx(PRED_1_WITHOUT_SELF, abs=1e-6)


def test_mean_rating_is_pred_by_the_sum_of_similarities() -> None:
    """The table of raters gives that sum: here all four rated everything."""
    one = of(EVERY, R[0])
    sums = table(profiles(R), raters=True).scores(one, 4)

    assert sums == pytest.approx([sum(SIM_1)] * 4, abs=1e-5)


def test_raters_are_those_who_have_the_item() -> None:
    values = R.copy()
    values[1, 2] = values[3, 2] = 0
    length = np.sqrt((values**2).sum(axis=1))
    similar = values @ values[0] / length / length[0]
    sums = table(profiles(values), raters=True).scores(of(EVERY, values[0]), 4)

    assert sums == pytest.approx([similar.sum()] * 2 + [similar[0] + similar[2]] + [similar.sum()], abs=1e-9)


EVENTS = st.lists(
    st.tuples(
        st.integers(0, 3),  # reader
        st.integers(0, 7),  # item
        st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, -1.0]),  # 0: undo
    ),
    max_size=60,
)


def played(
    events: list[tuple[int, int, float]], ring: int
) -> tuple[CosineRows, list[Profile], list[usercf.Deltas]]:
    rows, every = CosineRows(), [NOBODY] * 4
    sent = []
    for reader, item, value in events:
        before = every[reader]
        after = with_value(before, item, value, ring) if value else without(before, item)
        sent.append(deltas(before, after))
        rows.apply(sent[-1])
        every[reader] = after
    return rows, every, sent


@given(EVENTS, st.integers(1, 8), st.randoms(use_true_random=False))
def test_event_by_event_equals_batch_and_any_order_of_deltas_gives_the_same_bits(
    events: list[tuple[int, int, float]], ring: int, shuffle: object
) -> None:
    rows, every, sent = played(events, ring)
    values = np.zeros((4, 8))
    for reader, profile in enumerate(every):
        assert len(profile.items) <= ring
        values[reader, profile.items] = profile.values
    expected = batch(values)
    for reader, profile in enumerate(every):
        assert np.abs(rows.scores(profile, 8) - expected[reader]).max() < 1e-10

    shuffle.shuffle(sent)  # type: ignore[attr-defined]
    other = CosineRows()
    for change in sent:
        other.apply(change)
    fresh = table(every)
    for item in range(8):
        assert rows.row(item).tolist() == other.row(item).tolist() == fresh.row(item).tolist()


@given(EVENTS, st.integers(1, 8))
def test_who_is_forgotten_leaves_exactly_nothing(events: list[tuple[int, int, float]], ring: int) -> None:
    rows, every, _ = played(events, ring)
    for raters in (False, True):
        mine = table(every, raters) if raters else rows
        for profile in every[1:]:
            mine.apply(deltas(profile, NOBODY, raters))
        alone = table(every[:1], raters)
        for item in range(8):
            assert mine.row(item).tolist() == alone.row(item).tolist()
        mine.apply(deltas(every[0], NOBODY, raters))
        assert not any(mine.row(item).any() for item in range(8))


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(1, 6))
def test_a_history_gives_the_profile_that_its_events_give(history: list[int], ring: int) -> None:
    step = NOBODY
    for item in history:
        step = with_value(step, item, 1.0, ring)
    whole = latest(np.array(history, np.int32), ring)

    assert whole.items.tolist() == step.items.tolist()
    assert whole.values.tolist() == step.values.tolist()


def test_a_thousand_readers_and_back() -> None:
    """Against the formula in float64, and to zero again."""
    rng = np.random.default_rng(3)
    values = rng.integers(0, 6, (1000, 40)) * (rng.random((1000, 40)) < 0.3)
    every = profiles(values.astype(np.float64))
    rows = table(every)
    expected = batch(values.astype(np.float64))

    assert max(np.abs(rows.scores(one, 40) - expected[i]).max() for i, one in enumerate(every)) < 1e-10
    for one in every:
        rows.apply(deltas(one, NOBODY))
    assert not any(rows.row(item).any() for item in range(40))


def test_items_over_the_bound_are_counted_and_the_others_stay_exact() -> None:
    rows = CosineRows(max_items=3)
    for one in profiles(R):
        rows.apply(deltas(NOBODY, one))

    assert rows.beyond == 4
    assert len(rows) == 3
    whole = table(profiles(R))
    for item in range(3):
        assert rows.row(item).tolist() == whole.row(item)[:3].tolist()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 256.0, -300.0])
def test_a_value_that_is_no_value_is_refused(value: float) -> None:
    with pytest.raises(BadInput) as refused:
        with_value(NOBODY, 1, value, 4)
    assert refused.value.reason == "bad_weight"


def test_nobody_has_no_scores() -> None:
    rows = table(profiles(R))

    assert rows.scores(NOBODY, 4).tolist() == [0, 0, 0, 0]
    assert NearestReaders().scores(NOBODY, 4).tolist() == [0, 0, 0, 0]
    assert rows.scores(of(np.array([3000], np.int32), np.ones(1)), 4).tolist() == [0, 0, 0, 0]


def nearest_by_hand(values: np.ndarray, me: int, n: int) -> np.ndarray | None:
    """None where the last of the nearest ties with the first of the others."""
    length = np.maximum(np.sqrt((values**2).sum(axis=1)), 1e-300)
    similar = values @ values[me] / length / length[me]
    similar[me] = 0
    best = np.argsort(-similar, kind="stable")
    if n < len(best) and abs(similar[best[n - 1]] - similar[best[n]]) < 1e-9 and similar[best[n]] > 0:
        return None
    return sum((similar[v] * values[v] for v in best[:n] if similar[v] > 0), np.zeros(values.shape[1]))


@settings(max_examples=50)
@given(st.integers(0, 2**32), st.integers(1, 12))
def test_with_room_for_all_the_nearest_are_the_true_ones(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.random((12, 9)).round(1) * (rng.random((12, 9)) < 0.4)
    near = NearestReaders(nearest=n, per_item=12)
    every = profiles(values)
    for reader, profile in enumerate(every):
        values[reader, profile.items] = profile.values  # as rounded
        for item in profile.items.tolist():
            near.change(reader, profile, item)
    for reader, profile in enumerate(every):
        expected = nearest_by_hand(values, reader, n)
        if expected is not None:
            assert near.scores(profile, 9, reader=reader) == pytest.approx(expected, abs=1e-9)


def test_a_rating_is_the_weighed_mean_of_those_who_gave_one() -> None:
    near = NearestReaders(nearest=2)
    for reader, values in enumerate(R[1:], start=1):
        near.change(reader, of(EVERY, values), 3)
    me = of(EVERY[:3], R[0, :3])
    length = np.sqrt((R**2).sum(axis=1))
    similar = (R[1:, :3] @ R[0, :3]) / length[1:] / np.sqrt((R[0, :3] ** 2).sum())
    two = np.argsort(-similar)[:2]

    assert near.rating(me, 3) == pytest.approx(similar[two] @ R[1:, 3][two] / similar[two].sum())
    assert np.isnan(near.rating(me, 2))  # by nobody among its recent readers
    assert np.isnan(near.rating(me, 9999))
    assert np.isnan(near.rating(NOBODY, 3))


def test_what_leaves_a_profile_or_is_forgotten_is_no_candidate_any_more() -> None:
    near = NearestReaders(max_readers=2, per_item=4)
    a, b = of(np.array([0, 1], np.int32), np.ones(2)), of(np.array([0, 2], np.int32), np.ones(2))
    near.change("a", a, 0)
    near.change("a", a, 1)
    near.change("b", b, 0)
    near.change("b", b, 2)
    asked = of(np.array([0], np.int32), np.ones(1))
    assert np.count_nonzero(near.scores(asked, 3)) == 3
    near.change("a", without(a, 0), 0)  # an undo
    assert np.flatnonzero(near.scores(asked, 3)).tolist() == [0, 2]
    near.change("c", asked, 0)  # a third reader: the one whose last change is oldest leaves
    assert len(near) == 2
    assert near.forget("c") and not near.forget("c")
    assert near.forget("a")  # b it was
    assert not near.scores(asked, 3).any()
    assert not near._lengths.any() and (near._items == -1).all() and (near._recent == -1).all()


def test_a_bound_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        NearestReaders(per_item=0)
