"""The exploration slot: chances against sampled rates, picks against chances, numbers that a replay draws again."""

import numpy as np
import pytest

from models.taste.lists.explore import POOL, chances, draws, expected, pick, pool

CLICKS = np.array([0.0, 3.0, 0.0, 12.0, 1.5, 40.0], np.float32)
SHOWN = np.array([0.0, 20.0, 30.0, 60.0, 0.0, 55.0], np.float32)


@pytest.mark.parametrize("ctr0", [0.02, 0.1, 0.5])
def test_chances_are_how_often_a_sampled_rate_is_the_largest(ctr0: float) -> None:
    allowed = np.array(
        [[True] * 6, [True, True, True, False, True, False], [False, False, True, False, False, False]]
    )
    found = chances(CLICKS, SHOWN, allowed, ctr0)
    rng = np.random.default_rng(3)
    rates = rng.beta(1 + CLICKS, 1 / ctr0 + np.maximum(SHOWN - CLICKS, 0), (200_000, 6))
    for row in range(3):
        best = np.where(allowed[row], rates, -1).argmax(axis=1)
        wanted = np.bincount(best, minlength=6) / len(best)
        np.testing.assert_allclose(found[row], wanted, atol=0.004)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(expected(CLICKS, SHOWN, ctr0), rates.mean(axis=0), atol=0.002)


def test_extreme_counts_stay_numbers() -> None:
    clicks = np.array([0, 1e6, 0, 1e-9], np.float32)
    shown = np.array([1e6, 1e6, 0, 0], np.float32)
    found = chances(clicks, shown, np.ones((2, 4), np.bool_), 1e-4)
    assert np.isfinite(found).all() and (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert found[0].argmax() == 1


def test_picks_follow_the_chances_and_nothing_barred_is_picked() -> None:
    allowed = np.array([[True, False, True, True, False, True]] * 20_000)
    shares = chances(CLICKS, SHOWN, allowed, 0.1)
    numbers = np.random.default_rng(4).random(len(allowed))
    found, chance = pick(shares, numbers)
    assert set(np.unique(found)) <= {0, 2, 3, 5}
    np.testing.assert_allclose(np.bincount(found, minlength=6) / len(found), shares[0], atol=0.012)
    np.testing.assert_array_equal(chance, shares[0, found])


@pytest.mark.parametrize("number", [0.0, 0.5, np.nextafter(1.0, 0)])
def test_the_ends_of_the_unit_interval_pick_an_allowed_item(number: float) -> None:
    shares = np.array([[0.0, 0.3, 0.7, 0.0], [0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    found, chance = pick(shares, np.full(3, number))
    assert found[0] in (1, 2) and found[1:].tolist() == [-1, 0]
    assert chance[0] in (0.3, 0.7) and chance[1:].tolist() == [0.0, 1.0]


def test_no_candidate_at_all() -> None:
    shares = chances(CLICKS[:0], SHOWN[:0], np.empty((3, 0), np.bool_), 0.1)
    found, chance = pick(shares, np.zeros(3))
    assert found.tolist() == [-1] * 3 and chance.tolist() == [0.0] * 3


def test_the_pool_holds_the_least_exposed_and_of_them_the_newest() -> None:
    clicks = np.array([0, 9, 0, 0, 2, 0], np.float32)
    shown = np.array([0, 0, 3, 0, 1, 80], np.float32)
    newest = np.array([5, 5, 5, 9, 5, 5], np.int64)
    listable = np.array([True] * 6)
    assert pool(clicks, shown, newest, listable, 10).tolist() == [3, 0, 4, 2, 1]
    assert pool(clicks, shown, newest, listable, 9).tolist() == [
        3,
        0,
        4,
        2,
    ]  # clicked nine times: shown nine times
    listable[3] = False
    assert 3 not in pool(clicks, shown, newest, listable, 10)
    many = np.zeros(500, np.float32)
    assert len(pool(many, many, many.astype(np.int64), np.ones(500, np.bool_), 1)) == POOL


def test_draws_are_a_function_of_the_source_record_and_uniform() -> None:
    partitions = np.repeat(np.arange(8, dtype=np.int32), 5_000)
    offsets = np.tile(np.arange(5_000, dtype=np.int64), 8)
    numbers = draws(partitions, offsets)
    assert numbers.min() >= 0 and numbers.max() < 1
    assert len(np.unique(numbers)) == len(numbers)
    cells = np.bincount((numbers * 20).astype(int), minlength=20)
    assert abs(cells - 2000).max() < 200
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.02
    back = np.random.default_rng(1).permutation(len(offsets))
    np.testing.assert_array_equal(draws(partitions[back], offsets[back]), numbers[back])
    assert (
        draws(np.array([3], np.int32), np.array([4711])).tolist()
        == draws(np.array([3], np.int32), np.array([4711])).tolist()
    )
