"""Preferences and rates with intervals by readers, checked against plain formulas; arms that cannot be."""

import math

import numpy as np
import pytest

from models.experiments.arms import Experiment
from models.experiments.preference import mismatch, preference, rates


def test_ties_count_half_and_lists_without_points_do_not() -> None:
    points = np.array([[2, 1], [0, 1], [1, 1], [3, 0], [0, 0]])
    found = preference(np.arange(5), points)

    assert (found.lists, found.readers) == (4, 4)
    assert (found.first, found.second, found.ties) == (2, 1, 1)
    assert found.value == pytest.approx((2 + 0.5) / 4 - 0.5)
    assert found.low < found.value < found.high and not found.decided


def test_intervals_are_of_readers_not_of_lists() -> None:
    rng = np.random.default_rng(4)
    habits = rng.random(30) < 0.6  # each reader always chooses from the same list
    users = np.repeat(np.arange(30), 50)
    points = np.stack([habits[users], ~habits[users]], axis=1).astype(np.int64)
    one_by_one = preference(np.arange(len(users)), points)
    together = preference(users, points)

    assert together.value == one_by_one.value
    width, narrow = together.high - together.low, one_by_one.high - one_by_one.low
    assert width == pytest.approx(2 * 1.96 * math.sqrt(habits.mean() * (1 - habits.mean()) / 30), rel=0.15)
    assert width > 5 * narrow


def test_nothing_gives_no_figure() -> None:
    found = preference(np.empty(0, np.int64), np.empty((0, 2), np.int64))
    assert found.lists == 0 and math.isnan(found.value) and not found.decided
    empty = rates(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64), 2)
    assert [one.lists for one in empty] == [0, 0] and math.isnan(empty[1].difference)


def test_rates_of_arms_and_their_difference() -> None:
    rng = np.random.default_rng(8)
    users = np.arange(4000)
    arms = users % 2
    points = (rng.random(4000) < np.where(arms == 1, 0.3, 0.2)).astype(np.int64)
    control, better = rates(users, arms, points, 2)

    assert (control.lists, control.readers) == (2000, 2000)
    assert control.difference == control.difference_low == control.difference_high == 0
    assert better.value == pytest.approx(points[arms == 1].mean())
    assert better.difference == pytest.approx(better.value - control.value)
    spread = math.sqrt(0.2 * 0.8 / 2000 + 0.3 * 0.7 / 2000)
    assert better.difference_high - better.difference_low == pytest.approx(2 * 1.96 * spread, rel=0.1)
    assert better.difference_low > 0


@pytest.mark.parametrize(
    ("arms", "weights", "share", "said"),
    [
        (("a",), (1.0,), 1.0, "two arms"),
        (("a", "a"), (1.0, 1.0), 1.0, "arm a: there is another"),
        (("a", "b"), (1.0, 0.0), 1.0, "arm b: its weight"),
        (("a", "b"), (1.0, math.nan), 1.0, "arm b: its weight"),
        (("a", "b"), (1.0, math.inf), 1.0, "arm b: its weight"),
        (("a", "b"), (1.0,), 1.0, "each arm has a weight"),
        (("a", "b"), (1.0, 1.0), 0.0, "share"),
    ],
)
def test_arms_that_cannot_be_drawn_are_refused(
    arms: tuple[str, ...], weights: tuple[float, ...], share: float, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Experiment("e", "salt", arms, weights, share)


def test_readers_who_are_not_spread_as_the_weights_say_are_noticed() -> None:
    weights = np.array([1.0, 1.0])
    assert mismatch(np.array([500, 500]), weights) == 1
    # two-sided, normal: 530 of 1000 is 1.9 standard deviations off, 600 is 6.3
    assert mismatch(np.array([530, 470]), weights) == pytest.approx(0.058, abs=0.015)
    assert mismatch(np.array([600, 400]), weights) < 0.001
    assert mismatch(np.array([600, 400]), np.array([3.0, 2.0])) == 1
    assert math.isnan(mismatch(np.array([0, 0]), weights))


def test_honest_arms_are_rarely_called_uneven() -> None:
    drawn = np.random.default_rng(3).multinomial(900, [0.2, 0.3, 0.5], 200)
    small = [mismatch(one, np.array([2.0, 3.0, 5.0]), draws=2000) < 0.05 for one in drawn]
    assert 2 <= sum(small) <= 22
