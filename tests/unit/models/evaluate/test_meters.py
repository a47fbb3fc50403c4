"""Meters against numbers worked out by hand, and against the plain oracle on anything Hypothesis thinks of."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import evaluation_oracle as oracle
from models.evaluate import meters
from models.evaluate.bootstrap import intervals
from models.evaluate.ranks import ranks, usable

NAN, LAST = float("nan"), float("-inf")


def of(rows: list[list[float]], targets: list[int], ties: str = "against") -> list[float]:
    found = ranks(np.array(rows, np.float32), np.array(targets), ties)  # type: ignore[arg-type]
    return list(found.tolist())


def test_ranks_by_hand() -> None:
    rows = [[0.9, 0.5, 0.7, 0.1], [0.9, 0.5, 0.7, 0.1], [2, 2, 2, 1]]

    assert of(rows, [0, 3, 1]) == [1, 4, 3]
    assert of(rows, [0, 3, 1], "half") == [1, 4, 2]


def test_a_constant_scorer_is_last_with_ties_against_us_and_at_chance_with_half() -> None:
    assert of([[1.0] * 101], [7]) == [101]
    assert of([[1.0] * 101], [7], "half") == [51]
    assert meters.percentile_ranks(np.array([51.0]), 101)[0] == pytest.approx(100 * 50 / 101)


def test_what_the_protocol_takes_out_competes_with_nobody() -> None:
    assert of([[NAN, 0.5, 0.7, NAN]], [1]) == [2]
    assert of([[NAN, LAST, LAST, 0.0]], [1]) == [3]  # not listable: behind the listed, tied with the others
    with pytest.raises(ValueError, match="taken out"):
        of([[NAN, 1.0]], [0])


def test_a_layer_that_answers_nan_has_said_nothing() -> None:
    assert of(usable(np.array([[NAN, 0.5, 0.7]], np.float32)).tolist(), [0]) == [3]


def test_accuracy_by_hand() -> None:
    found = np.array([1.0, 2.0, 3.0, 4.0])

    assert meters.hits(found, 3).tolist() == [True, True, True, False]
    assert meters.reciprocal_ranks(found, 3) == pytest.approx([1, 1 / 2, 1 / 3, 0])
    assert meters.discounted_gains(found, 3) == pytest.approx([1, 0.6309297536, 0.5, 0])
    assert meters.percentile_ranks(found, 4) == pytest.approx([0, 25, 50, 75])


def test_two_items_that_share_the_last_place_of_a_list_both_count() -> None:
    assert meters.hits(np.array([10.5, 11.0]), 10).tolist() == [True, False]


def test_catalogue_by_hand() -> None:
    lists = np.array([[0, 1], [0, 2], [0, -1]], np.int32)
    exposures = meters.exposure(lists, 4)

    assert exposures.tolist() == [3, 1, 1, 0]
    assert meters.coverage(exposures) == 0.75
    # sorted 0, 1, 1, 3: (-3*0 - 1*1 + 1*1 + 3*3) / (4 * 5)
    assert meters.gini(exposures) == pytest.approx(0.45)
    bits = meters.self_information(np.array([8, 4, 2, 2]))
    assert bits.tolist() == [1, 2, 3, 3]
    assert meters.novelty(exposures, bits) == pytest.approx((3 * 1 + 2 + 3) / 5)


def test_gini_of_the_extremes() -> None:
    assert meters.gini(np.array([5, 5, 5])) == 0
    assert meters.gini(np.array([0, 0, 0, 7])) == pytest.approx(0.75)
    assert math.isnan(meters.gini(np.array([0, 0])))
    assert math.isnan(meters.novelty(np.array([0, 0]), np.array([1.0, 1.0])))


def test_intra_list_distance_by_hand() -> None:
    # item 0: readers a, b; item 1: b; item 2: c; item 3: nobody
    vectors = meters.unit_vectors(np.array([0, 1, 1, 2]), np.array([0, 0, 1, 2]), 4, seed=0)
    lists = np.array([[0, 1, 2], [0, 1, -1], [2, 3, -1], [0, -1, -1]], np.int32)

    near = 1 - 1 / math.sqrt(2)  # items 0 and 1 share one reader of two and one
    found = meters.intra_list_distances(lists, vectors)
    assert found[:3] == pytest.approx([(near + 1 + 1) / 3, near, 1], abs=1e-6)
    assert math.isnan(found[3])


def test_more_lists_than_are_gathered_at_once() -> None:
    rng = np.random.default_rng(6)
    pairs = rng.integers(0, 2000, 4000), rng.integers(0, 40, 4000)
    vectors = meters.unit_vectors(*pairs, 40, seed=0)  # 1,024 cells an item: 102 lists of 10 at once
    lists = np.array([rng.permutation(40)[:10] for _ in range(250)], np.int32)

    whole = meters.intra_list_distances(lists, vectors)
    assert whole.tolist() == [meters.intra_list_distances(one[None], vectors)[0] for one in lists]


def test_many_readers_are_projected_and_cosines_stay() -> None:
    rng = np.random.default_rng(5)
    readers = {i: set(rng.integers(0, 5000, 400).tolist()) for i in range(6)}
    readers[1] = readers[0]  # at distance 0
    pairs = [(u, i) for i, mine in readers.items() for u in mine]
    users, items = (np.array(column) for column in zip(*pairs, strict=True))
    vectors = meters.unit_vectors(users, items, 6, seed=3)
    again = meters.unit_vectors(users, items, 6, seed=3)

    assert vectors.shape == (6, 1024)
    assert (vectors == again).all()
    for a, b in ((0, 1), (0, 2), (3, 4)):
        found = meters.intra_list_distances(np.array([[a, b]], np.int32), vectors)[0]
        assert found == pytest.approx(oracle.distance_of([a, b], readers), abs=0.12)


@given(
    hnp.arrays(np.float32, (3, 9), elements=st.sampled_from([LAST, -1.0, 0.0, 0.5, 2.0, NAN])),
    st.integers(0, 8),
    st.booleans(),
)
def test_ranks_equal_the_oracle(scores: np.ndarray, target: int, against: bool) -> None:
    scores[:, target] = np.nan_to_num(scores[:, target], nan=0.0, neginf=LAST)
    found = of(scores.tolist(), [target] * 3, "against" if against else "half")

    assert found == [oracle.rank_of(row, target, against) for row in scores.tolist()]


@given(hnp.arrays(np.float32, (1, 12), elements=st.floats(-4, 4, width=16)), st.integers(0, 11))
def test_ties_against_us_are_never_the_better_reading(scores: np.ndarray, target: int) -> None:
    assert of(scores.tolist(), [target])[0] >= of(scores.tolist(), [target], "half")[0]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(1, 25))
def test_accuracy_equals_the_oracle_and_is_ordered(found: list[int], k: int) -> None:
    at = np.array(found, np.float64)
    gains, reciprocals = meters.discounted_gains(at, k), meters.reciprocal_ranks(at, k)

    assert gains == pytest.approx([oracle.gain(rank, k) for rank in found])
    assert (reciprocals <= gains + 1e-12).all()
    assert (gains <= meters.hits(at, k)).all()


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(any), st.integers(1, 9))
def test_gini_equals_the_oracle_and_knows_no_scale(exposures: list[int], times: int) -> None:
    found = meters.gini(np.array(exposures))

    assert found == pytest.approx(oracle.gini_of(exposures))
    assert -1e-12 <= found < 1
    assert meters.gini(np.array(exposures) * times) == pytest.approx(found)


@given(
    st.lists(st.sets(st.integers(0, 9), max_size=6), min_size=6, max_size=6),
    st.permutations(range(6)),
    st.integers(2, 6),
)
def test_distances_equal_the_oracle(readers: list[set[int]], order: list[int], size: int) -> None:
    pairs = [(user, item) for item, mine in enumerate(readers) for user in mine]
    users, items = np.array(pairs, np.int64).reshape(-1, 2).T
    vectors = meters.unit_vectors(users, items, 6, seed=0)
    chosen = order[:size]

    found = meters.intra_list_distances(np.array([chosen], np.int32), vectors)[0]
    assert found == pytest.approx(oracle.distance_of(chosen, dict(enumerate(readers))), abs=1e-5)


def test_intervals_are_seeded_hold_the_mean_and_narrow_with_more_users() -> None:
    rng = np.random.default_rng(1)
    users = np.repeat(np.arange(400), 5)
    values = rng.random((2, 2000))
    low, high = intervals(values, users, seed=4)
    few_low, few_high = intervals(values[:, :100], users[:100], seed=4)

    assert (low < values.mean(axis=1)).all() and (values.mean(axis=1) < high).all()
    assert (high - low < few_high - few_low).all()
    assert (intervals(values, users, seed=4)[0] == low).all()
    assert (intervals(values, users, seed=5)[0] != low).all()


def test_an_interval_is_over_users_not_events() -> None:
    """One user's hundred equal events say no more than one: between two users, anything from 0 to 1 may be drawn."""
    low, high = intervals(np.array([[1.0] * 100 + [0.0] * 100]), np.repeat([0, 1], 100), seed=0)

    assert (low[0], high[0]) == (0, 1)


def test_an_interval_has_the_width_that_theory_gives() -> None:
    """Independent users with one event each: 1.96 standard errors either way."""
    values = np.random.default_rng(2).random((1, 3000))
    low, high = intervals(values, np.arange(3000), seed=0)

    assert (high - low)[0] / 2 == pytest.approx(1.96 * values.std() / math.sqrt(3000), rel=0.1)


def test_no_events_no_interval() -> None:
    low, high = intervals(np.empty((2, 0)), np.empty(0, np.int64), seed=0)

    assert np.isnan(low).all() and np.isnan(high).all()
