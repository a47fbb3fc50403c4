"""Item-item ridge: the closed form of readers' sets, solved anew as events come."""

import numpy as np
import pytest

from models.taste.learnt.ridge import MAX_ITEMS, Ridge, inverted


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
    found = np.stack([ridge.scores(np.array([j], np.int32), np.ones(1, np.float32), 9) for j in range(9)])
    for item in range(8):
        others = [j for j in range(8) if j != item]
        best = np.linalg.solve(x[:, others].T @ x[:, others] + 3 * np.eye(7), x[:, others].T @ x[:, item])
        np.testing.assert_allclose(found[others, item], best, atol=1e-5)
    assert not found.diagonal().any() and not found[8].any() and not found[:, 8].any()


def test_apart_it_grows_waits_for_its_solution_and_knows_nothing_beyond_its_bound() -> None:
    rng = np.random.default_rng(7)
    events = [
        (np.unique(rng.integers(0, 120, 5)).astype(np.int32), int(rng.integers(0, 120))) for _ in range(300)
    ]
    whole, apart = Ridge(100, at_least=300), Ridge(100, at_least=300, apart=True)
    for had, item in events:
        had = had[had != item]
        apart.learn(had, item)
        whole.learn(had[had < 100], item) if item < 100 else None
    asked, ones = np.array([3, 70, 110], np.int32), np.ones(3, np.float32)
    assert whole._learnt == apart._learnt < 300 and apart.unsolved() is None
    for one in (whole, apart):
        while one._learnt < 300:
            one.learn(np.array([1], np.int32), 2)
    assert not apart.scores(asked, ones, 130).any()
    unsolved = apart.unsolved()
    assert unsolved is not None and apart.unsolved() is None
    apart.learn(np.array([1], np.int32), 3)  # while it is solved
    apart.use(unsolved.solved())
    found = apart.scores(asked, ones, 130)
    np.testing.assert_allclose(found[:100], whole.scores(asked[:2], ones[:2], 100), atol=1e-6)
    assert found[:100].any() and not found[100:].any() and len(apart.scores(asked, ones, 50)) == 50


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
