"""The network that orders candidates anew: it learns what no sum can say, by its own slopes, and repeats itself."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from models.taste.learnt.reranker import Reranker, RerankSettings

F32 = NDArray[np.float32]
SMALL = RerankSettings(candidates=8, hidden=16, rate=5e-3, group=16, again=3, kept=500)


def choice(rng: np.random.Generator) -> tuple[F32, F32, int]:
    """Readers take the candidate whose two numbers are on the same side of a half: an exclusive or, reversed."""
    x = rng.random((8, 2)).astype(np.float32)
    right = (x > 0.5).all(axis=1) | (x <= 0.5).all(axis=1)
    odds = np.where(right, 20.0, 1.0)
    return x, np.zeros(8, np.float32), int(rng.choice(8, p=odds / odds.sum()))


def test_before_anything_is_learnt_the_order_is_the_old_one() -> None:
    base = np.array([3.0, -np.inf, 1.0], np.float32)
    found = Reranker(2, SMALL).scores(np.ones((3, 2), np.float32), base)
    np.testing.assert_array_equal(found, base)


def test_it_learns_what_no_sum_of_the_features_can_say() -> None:
    rng, network = np.random.default_rng(1), Reranker(2, SMALL)
    for _ in range(3000):
        network.learn(*choice(rng))
    probes = np.array([[0.9, 0.9], [0.1, 0.1], [0.9, 0.1], [0.1, 0.9]], np.float32)
    found = network.scores(probes, np.zeros(4, np.float32))
    assert found[:2].min() > found[2:].max() + 1


def test_a_step_goes_down_the_slope_of_the_loss() -> None:
    """Each weight is moved a little: the change of the loss is what the step's own slopes say."""
    rng, network = np.random.default_rng(2), Reranker(3, RerankSettings(4, 5, 1e-3, 100, 0, 8))
    for weight in network._weights:
        weight += 0.3 * rng.standard_normal(weight.shape).astype(np.float32)
    x, base = rng.random((3, 3)).astype(np.float32), np.zeros(3, np.float32)  # three of four candidates
    network.learn(x, base, 1)
    kept = network._x[0, :3].astype(np.float32)
    slopes: list[F32] = []
    network._adam = slopes.extend  # type: ignore[method-assign]
    network._step(np.array([0]))

    def loss() -> float:
        scores = network.scores(kept, base).astype(np.float64)
        return float(np.log(np.exp(scores).sum()) - scores[1])

    for weight, slope in zip(network._weights, slopes, strict=True):
        for place in np.ndindex(slope.shape):
            was = weight[place].copy()
            weight[place] = was + 1e-3
            up = loss()
            weight[place] = was - 1e-3
            down, weight[place] = loss(), was
            assert (up - down) / 2e-3 == pytest.approx(float(slope[place]), rel=0.05, abs=1e-3)


def test_it_is_a_function_of_the_choices_and_the_seed_and_keeps_a_bounded_number() -> None:
    rng = np.random.default_rng(3)
    stream = [choice(rng) for _ in range(1200)]
    first, again, other = Reranker(2, SMALL, 5), Reranker(2, SMALL, 5), Reranker(2, SMALL, 6)
    for network in (first, again, other):
        for one in stream:
            network.learn(*one)
    x, base, _ = stream[0]
    np.testing.assert_array_equal(first.scores(x, base), again.scores(x, base))
    assert not np.array_equal(first.scores(x, base), other.scores(x, base))
    assert first.choices == 1200 and len(first._x) == SMALL.kept


def test_the_mean_of_the_weights_wanders_less_and_takes_the_same_steps() -> None:
    rng = np.random.default_rng(4)
    plain, calm = Reranker(2, SMALL), Reranker(2, replace(SMALL, average=0.9))
    probe, base = rng.random((6, 2)).astype(np.float32), np.zeros(6, np.float32)
    found: dict[Reranker, list[F32]] = {plain: [], calm: []}
    for nth in range(SMALL.group * 60):
        one = choice(rng)
        for network, scores in found.items():
            network.learn(*one)
            if nth % SMALL.group == 0 and nth > SMALL.group * 30:
                scores.append(network.scores(probe, base))
    for mine, theirs in zip(plain._weights, calm._weights, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    moves = {network: np.abs(np.diff(scores, axis=0)).mean() for network, scores in found.items()}
    assert 0 < moves[calm] < 0.3 * moves[plain]
    again = Reranker(2, replace(SMALL, average=0.9))
    again.load(calm.encode())
    np.testing.assert_array_equal(again.scores(probe, base), calm.scores(probe, base))
    assert again.encode() == calm.encode() != plain.encode()


def test_no_choice_breaks_it() -> None:
    network = Reranker(2, SMALL)
    for sign in (1, -1) * 200:
        network.learn(np.full((8, 2), sign * 6e4, np.float32), np.zeros(8, np.float32), 0)
    assert all(np.isfinite(weight).all() and np.abs(weight).max() <= 50 for weight in network._weights)


@pytest.mark.parametrize(
    "how", [{"group": 0}, {"hidden": 0}, {"again": -1}, {"rate": 0.0}, {"kept": 0}, {"average": 1.0}]
)
def test_settings_that_are_none_are_refused(how: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="reranker needs"):
        Reranker(2, RerankSettings(**how))  # type: ignore[arg-type]
