"""Item-item ridge: the closed form of readers' sets, solved anew as events come."""

import numpy as np
import pytest

from models.taste.ridge import MAX_ITEMS, Ridge, inverted


def test_it_is_the_closed_form_of_the_readers_sets() -> None:
    rng = np.random.default_rng(4)
    sets = rng.random((40, 8)) < 0.4
    ridge = Ridge(
        9, penalty=3.0, at_least=int(sets.sum())
    )  # solved behind the last event; item 8 never comes
    for row in sets:
        had: list[int] = []
        for item in rng.permutation(np.flatnonzero(row)).tolist():
            ridge.learn(np.array(sorted(had), np.int32), item)
            had.append(item)
    x = sets.astype(np.float64)
    # the least squares of each item from the others, found one by one
    found = np.stack([ridge.scores(np.array([j], np.int32), np.ones(1, np.float32)) for j in range(9)])
    for item in range(8):
        others = [j for j in range(8) if j != item]
        best = np.linalg.solve(x[:, others].T @ x[:, others] + 3 * np.eye(7), x[:, others].T @ x[:, item])
        np.testing.assert_allclose(found[others, item], best, atol=1e-5)
    assert not found.diagonal().any() and not found[8].any() and not found[:, 8].any()


def test_the_inverse_by_halves_is_the_inverse() -> None:
    rng = np.random.default_rng(1)
    for size in (1, 300, 777):
        some = rng.standard_normal((size, size // 3 + 1))
        matrix = some @ some.T + 20 * np.eye(size)
        np.testing.assert_allclose(inverted(matrix) @ matrix, np.eye(size), atol=1e-9)


def test_it_is_solved_anew_when_there_are_a_twentieth_more_events() -> None:
    ridge, solved = Ridge(3, at_least=10), []
    for event in range(700):
        before = ridge._foretells
        ridge.learn(np.array([event % 2], np.int32), 2)
        if ridge._foretells is not before:
            solved.append(event + 1)
    assert solved[:20] == list(range(10, 210, 10)) and solved[20:23] == [210, 220, 231]
    assert solved[-1] > 650


@pytest.mark.parametrize(("items", "penalty", "at_least"), [(MAX_ITEMS + 1, 1, 1), (3, 0, 1), (3, 1, 0)])
def test_sizes_that_it_does_not_take(items: int, penalty: float, at_least: int) -> None:
    with pytest.raises(ValueError, match=r"ridge|penalty"):
        Ridge(items, penalty, at_least)
