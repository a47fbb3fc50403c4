"""The calibrated blend: it learns what readers go by, in bounded steps, and is a function of the choices."""

import numpy as np
import pytest
from numpy.typing import NDArray

from models.errors import BadInput
from models.taste.learnt.blend import FORMS, Blend, spread

F32 = NDArray[np.float32]
ITEMS = 30


def choices(seed: int, count: int, wanted: F32) -> list[tuple[F32, int, NDArray[np.bool_]]]:
    """Readers who choose by the odds that these weights of features give."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        features = spread(rng.gamma(0.5, 1, (2, ITEMS)).astype(np.float32))
        possible = rng.random(ITEMS) < 0.8
        odds = np.where(possible, np.exp(wanted @ features), 0)
        found.append((features, int(rng.choice(ITEMS, p=odds / odds.sum())), possible))
    return found


def test_features_are_bounded_and_keep_the_order_of_a_part() -> None:
    parts = np.array(
        [[0.0, 1e-20, 5.0, 50.0], [-3.0, 0.0, -1.0, -2.0], [np.nan, np.inf, 2.0, -np.inf]], np.float32
    )
    found = spread(parts)
    assert found.shape == (3 * FORMS, 4) and found.min() == 0 and found.max() == pytest.approx(1)
    assert (np.diff(found[:FORMS], axis=1)[:, 1:] > 0).all()
    assert not found[FORMS : 2 * FORMS].any()
    assert found[2 * FORMS :, 2] == pytest.approx(1) and not found[2 * FORMS :, [0, 1, 3]].any()


def test_it_finds_the_weights_that_readers_go_by_and_their_odds() -> None:
    wanted = np.array([4, 0, 0, 0, 0, 2], np.float32)
    blend = Blend(np.zeros(6), rate=0.5)
    for choice in choices(1, 3000, wanted):
        blend.learn(*choice)
    oracle, by_chance = Blend(wanted), Blend(np.zeros(6))
    unseen = choices(2, 1000, wanted)
    right, best, none = (likelihood(one, unseen) for one in (blend, oracle, by_chance))
    assert best - right < 0.05 * (best - none)  # as sure as right: that is what the likelihood measures


def likelihood(blend: Blend, stream: list[tuple[F32, int, NDArray[np.bool_]]]) -> float:
    """Mean logarithm of the odds that were given to what was chosen."""
    found = []
    for features, chosen, possible in stream:
        scores = np.where(possible, blend.scores(features).astype(np.float64), -np.inf)
        found.append(scores[chosen] - scores.max() - np.log(np.exp(scores - scores.max()).sum()))
    return float(np.mean(found))


def test_no_weight_moves_by_more_than_the_rate_and_no_choice_breaks_it() -> None:
    blend = Blend(np.zeros(6), rate=0.1)
    before = blend.weights.copy()
    for features, chosen, possible in choices(3, 50, np.zeros(6, np.float32)):
        blend.learn(features * 1e6, chosen, possible)
        assert np.abs(blend.weights - before).max() <= 0.1
        before = blend.weights.copy()
    assert np.isfinite(blend.weights).all() and blend.choices > 0


def test_what_says_nothing_moves_nothing() -> None:
    features, chosen, possible = choices(4, 1, np.zeros(6, np.float32))[0]
    fixed, blend = Blend([1.0] * 6, rate=0), Blend([1.0] * 6)
    fixed.learn(features, chosen, possible)
    impossible, alone = possible.copy(), np.zeros(ITEMS, np.bool_)
    impossible[chosen], alone[chosen] = False, True
    blend.learn(features, chosen, impossible)
    blend.learn(features, chosen, alone)
    for one in (fixed, blend):
        assert one.choices == 0 and (one.weights == 1).all()


def test_what_a_part_is_worth_is_learnt_for_each_situation() -> None:
    """Newcomers go by the first part, old readers by the second: one set of weights can say neither."""
    wanted = [np.array(row, np.float32) for row in ([6, 0, 0, 0, 0, 0], [0, 0, 0, 6, 0, 0])]
    streams = [choices(seed, 1500, one) for seed, one in enumerate(wanted)]
    shared, apart = Blend(np.zeros(6), rate=0.3), Blend(np.zeros(6), rate=0.3, situations=2)
    for both in zip(*streams, strict=True):
        for situation, choice in enumerate(both):
            shared.learn(*choice)
            apart.learn(*choice, situations=(situation,))
    features = streams[0][0][0]
    in_first, in_second = (apart.scores(features, (situation,)) for situation in (0, 1))
    assert (
        np.corrcoef(in_first, features[0])[0, 1]
        > 0.9
        > np.corrcoef(shared.scores(features), features[0])[0, 1]
    )
    assert np.corrcoef(in_second, features[FORMS])[0, 1] > 0.9
    again = Blend(np.zeros(6), situations=2)
    again.load(apart.encode())
    np.testing.assert_array_equal(again.scores(features, (1,)), in_second)
    with pytest.raises(BadInput, match="blend"):
        Blend(np.zeros(6), situations=1).load(apart.encode())


def test_state_is_a_function_of_the_choices_and_survives_its_bytes() -> None:
    stream = choices(5, 200, np.array([3, 0, 0, 1, 0, 0], np.float32))
    whole, first = Blend(np.zeros(6)), Blend(np.zeros(6))
    for choice in stream:
        whole.learn(*choice)
    for choice in stream[:90]:
        first.learn(*choice)
    second = Blend(np.zeros(6))
    second.load(first.encode())
    for choice in stream[90:]:
        second.learn(*choice)
    assert second.encode() == whole.encode() and second.choices == whole.choices == 200


@pytest.mark.parametrize(
    "harm", [lambda b: b[:-1], lambda b: b"XXXX" + b[4:], lambda b: b[:-8] + b"\x00" * 8]
)
def test_other_bytes_are_refused_and_change_nothing(harm) -> None:  # type: ignore[no-untyped-def]
    blend = Blend(np.ones(6))
    with pytest.raises(BadInput, match="blend"):
        blend.load(harm(Blend(np.zeros(6)).encode()))
    assert (blend.weights == 1).all()


@pytest.mark.parametrize(("weights", "rate"), [([np.nan], 0.1), ([1.0], -0.1), ([1.0], np.inf)])
def test_numbers_that_are_none_are_refused(weights: list[float], rate: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Blend(weights, rate)
