"""The learnt blend as it is served: what it makes of parts, what it learns from, and how much it remembers."""

import numpy as np
import pytest

from models.errors import BadInput
from models.taste.learnt.calibrated import FORM_NAMES, PARTS, Calibrated, Candidates, Watch

NAMES = ("counts", "taste", "popularity")


def made(rows: list[int], count: int = 6, seed: int = 0, by: Calibrated | None = None) -> Candidates:
    rng = np.random.default_rng(seed)
    items = np.tile(np.arange(10, 10 + count, dtype=np.int32), (len(rows), 1))
    parts = rng.random((len(rows), count, 3)).astype(np.float32)
    return Candidates(np.array(rows, np.int32), items, parts, NAMES, by or Calibrated())


def test_before_anything_is_learnt_counts_lead_and_the_rest_adds_a_tenth() -> None:
    parts = np.array([[[2, 0.3, 0], [1, 0.6, 5], [0, -0.6, 0]]], np.float32)
    np.testing.assert_allclose(
        Calibrated().weigh(NAMES, parts)[0], [[1, 0.05, 0], [0.5, 0.1, 0.1], [0, 0, 0]], rtol=1e-6
    )


def test_weights_go_to_the_part_that_readers_choose_by_and_never_below_nothing() -> None:
    weights, rng = Calibrated(), np.random.default_rng(3)
    for _ in range(400):
        parts = rng.random((40, 3)).astype(np.float32)
        before = weights.weights()
        weights.learn(NAMES, parts, int(parts[:, 2].argmax()), np.ones(40, np.bool_))
        assert np.abs(weights.weights() - before).max() <= 0.1 + 1e-9
        assert (weights.weights() >= 0).all()
    learnt = weights.weights().sum(axis=1)
    assert learnt[PARTS.index("popularity")] > 2 * learnt[PARTS.index("counts")]
    assert learnt[PARTS.index("walk")] == pytest.approx(0.1)  # those lists had none
    assert weights.choices == 400


def test_learning_raises_the_score_of_what_is_chosen_by_the_very_numbers_that_are_served() -> None:
    weights, one = Calibrated(), made([0], seed=4)
    before = weights.weigh(NAMES, one.parts).sum(axis=2)[0]
    weights.learn(NAMES, one.parts[0], 2, np.ones(6, np.bool_))
    after = weights.weigh(NAMES, one.parts).sum(axis=2)[0]

    def chance(scores: np.ndarray) -> float:  # type: ignore[type-arg]
        risen = np.exp(scores - scores.max())
        return float(risen[2] / risen.sum())

    assert chance(after) > chance(before)


def test_own_items_that_lead_keep_their_lead_and_are_not_learnt_from() -> None:
    names = (*NAMES, "own")
    parts = np.zeros((1, 4, 4), np.float32)
    parts[0, :, 0] = [9, 3, 2, 1]
    parts[0, 3, 3] = 50.0
    weights = Calibrated()
    found = weights.weigh(names, parts)
    assert found.sum(axis=2)[0].argmax() == 3 and found[0, 3, 3] == 100
    weights.learn(names, parts[0], 3, np.ones(4, np.bool_))
    assert weights.choices == 0
    weights.learn(names, parts[0], 1, np.ones(4, np.bool_))
    assert weights.choices == 1


def test_a_part_of_another_name_comes_to_nothing() -> None:
    found = Calibrated().weigh(("counts", "other"), np.ones((1, 2, 2), np.float32))
    assert found[..., 0].all() and not found[..., 1].any()


def test_the_state_is_kept_and_another_is_refused() -> None:
    weights, again = Calibrated(), Calibrated()
    weights.learn(NAMES, made([0]).parts[0], 1, np.ones(6, np.bool_))
    again.load(weights.encode())
    assert again.encode() == weights.encode() != Calibrated().encode()
    assert again.weights().shape == (len(PARTS), len(FORM_NAMES))
    with pytest.raises(BadInput):
        again.load(weights.encode()[:-1])
    assert again.encode() == weights.encode()


def test_a_list_is_learnt_from_once_and_only_by_what_was_among_its_candidates() -> None:
    weights, watch = Calibrated(), Watch()
    watch.show(made([7, 9, 200], by=weights), [0, 2])
    assert watch.waiting(np.array([7, 9, 200, 5000], np.int32)).tolist() == [True, False, True, False]
    assert not watch.chose(7, 99) and weights.choices == 0
    assert watch.chose(200, 12) and weights.choices == 1
    assert len(watch) == 0 and not watch.waiting(np.array([7, 200], np.int32)).any()
    assert watch.bytes_used() == 0


def test_no_more_lists_are_remembered_than_asked_and_who_leaves_is_forgotten() -> None:
    watch = Watch(3)
    for row in (1, 2, 1, 3, 4):
        watch.show(made([row]), [0])
    assert watch.waiting(np.arange(5, dtype=np.int32)).tolist() == [False, True, False, True, True]
    assert watch.bytes_used() == 3 * (6 * 4 + 6 * 3 * 4)
    watch.forget([3, 8])
    assert len(watch) == 2 and not watch.waiting(np.array([3], np.int32)).any()
    with pytest.raises(ValueError, match="at least one"):
        Watch(0)
