"""Greedy choices against naive searches that try every candidate anew; author decay and limits against plain loops."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.taste.lists.authors import Room, decayed, occurrence
from models.taste.lists.diversity import (
    Best,
    Calibrated,
    Dpp,
    Mmr,
    Spread,
    choose,
    expected,
    in_order,
    relevance,
)

F32 = NDArray[np.float32]


def unit(rng: np.random.Generator, *shape: int) -> F32:
    vectors = rng.normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def free(batch: int, candidates: int) -> Room:
    return Room(np.full((batch, candidates), -1, np.int32), 0)


def everything(relevant: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.ones(relevant.shape, np.bool_)


@pytest.mark.parametrize("theta", [0.5, 0.75, 0.95])
def test_dpp_takes_what_a_search_over_determinants_takes(theta: float) -> None:
    rng = np.random.default_rng(int(theta * 100))
    relevant, vectors = rng.random((6, 12)), unit(rng, 6, 12, 5)
    vectors[2, 3:7] = 0  # nothing known of these
    chosen = choose(Dpp(relevant, vectors, theta, 6), everything(relevant), free(6, 12), 6)
    for row in range(6):
        cosines = vectors[row].astype(np.float64) @ vectors[row].T.astype(np.float64)
        alike = (1 + cosines) / 2
        np.fill_diagonal(alike, 1)
        quality = np.exp(theta / (2 * (1 - theta)) * relevant[row])
        kernel = quality[:, None] * quality * alike
        taken: list[int] = []
        for _ in range(6):
            rest = [i for i in range(12) if i not in taken]
            taken.append(max(rest, key=lambda i: np.linalg.det(kernel[np.ix_([*taken, i], [*taken, i])])))
        assert chosen[row].tolist() == taken


def test_dpp_of_twins_goes_on_by_relevance() -> None:
    relevant = np.array([[1.0, 0.9, 0.8, 0.5]])
    one = unit(np.random.default_rng(1), 1, 8)
    other = -one  # (1 + cos) / 2 = 0: as unlike as can be
    vectors = np.stack([one[0], one[0], other[0], other[0]])[None]
    chosen = choose(Dpp(relevant, vectors, 0.7, 4), everything(relevant), free(1, 4), 4)
    assert chosen[0].tolist() == [0, 2, 1, 3]


@pytest.mark.parametrize("theta", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("aim", [Mmr, Spread])
def test_mmr_and_spread_equal_their_formulas(aim: type[Mmr] | type[Spread], theta: float) -> None:
    rng = np.random.default_rng(7)
    relevant, vectors = rng.random((5, 15)), unit(rng, 5, 15, 6)
    chosen = choose(aim(relevant, vectors, theta), everything(relevant), free(5, 15), 8)
    for row in range(5):
        taken = [int(relevant[row].argmax())]
        while len(taken) < 8:
            near = {
                i: [float(vectors[row, i] @ vectors[row, j]) for j in taken]
                for i in range(15)
                if i not in taken
            }
            value = {
                i: theta * relevant[row, i] - (1 - theta) * (max(cos) if aim is Mmr else sum(cos) / len(cos))
                for i, cos in near.items()
            }
            taken.append(max(value, key=lambda i: value[i]))
        assert chosen[row].tolist() == taken
    if theta == 1:
        assert chosen.tolist() == np.argsort(-relevant, axis=1)[:, :8].tolist()


@pytest.mark.parametrize("weight", [0.0, 0.4, 0.99])
def test_calibration_equals_its_formula(weight: float) -> None:
    rng = np.random.default_rng(8)
    relevant = rng.random((4, 10))
    topics = rng.dirichlet([0.3] * 4, (4, 10)).astype(np.float32)
    topics[:, 3] = 0
    wanted = rng.dirichlet([0.5] * 4, 4).astype(np.float32)
    wanted[3] = 0
    chosen = choose(Calibrated(relevant, topics, wanted, weight), everything(relevant), free(4, 10), 5)
    for row in range(4):
        p, taken = wanted[row].astype(float), []

        def objective(items: list[int], row: int = row, p: NDArray[np.float64] = p) -> float:
            q = 0.99 * topics[row, items].astype(float).mean(axis=0) + 0.01 * p
            away = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)
            return (1 - weight) * float(relevant[row, items].sum()) - weight * away

        for _ in range(5):
            taken.append(max((i for i in range(10) if i not in taken), key=lambda i: objective([*taken, i])))
        assert chosen[row].tolist() == taken


def test_calibrated_lists_come_closer_to_the_reader() -> None:
    rng = np.random.default_rng(9)
    relevant = np.sort(rng.random((1, 40)))[:, ::-1].copy()
    topics = np.zeros((1, 40, 2), np.float32)
    topics[0, :20, 0] = topics[0, 20:, 1] = 1  # the twenty best are all of one topic
    wanted = np.array([[0.7, 0.3]], np.float32)
    chosen = choose(Calibrated(relevant, topics, wanted, 0.99), everything(relevant), free(1, 40), 10)
    assert topics[0, chosen[0], 1].sum() == 3


def test_what_was_chosen_stands_best_first_ten_places_at_a_time() -> None:
    chosen = np.array(
        [[5, 0, 3, 9, 1, 2, 7, 4, 8, 6, 14, 11, 10], [4, 2, 3, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1]]
    )
    first, second = in_order(chosen).tolist()
    assert first == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14]
    assert second == [2, 3, 4, *[-1] * 10]
    late = in_order(np.array([[9, 8, 7, 6, 5, 4, 3, 2, 12, 11, 0, 1]])).tolist()
    assert late == [[2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 0, 1]]  # nobody moves from one stretch into another


def test_short_of_candidates_lists_are_short() -> None:
    held = np.array([[True, True, True], [False, True, False], [False, False, False]])
    assert choose(Best((3, 3)), held, free(3, 3), 5).tolist() == [
        [0, 1, 2, -1, -1],
        [1, -1, -1, -1, -1],
        [-1, -1, -1, -1, -1],
    ]


def test_relevance_lies_between_0_and_1() -> None:
    scores = np.array([[3.0, 1.0, 2.0, 9.0], [4.0, 4.0, 4.0, 0.0], [0.0, 0.0, 0.0, 0.0]], np.float32)
    held = np.array([[True, True, True, False]] * 2 + [[False] * 4])
    assert relevance(scores, held).tolist() == [[1.0, 0.0, 0.5, 0.0], [1.0, 1.0, 1.0, 0.0], [0.0] * 4]


def test_expected_is_what_a_list_loses_without_an_item() -> None:
    rng = np.random.default_rng(11)
    scores = -np.sort(-rng.normal(size=(5, 9)) * 2, axis=1).astype(np.float32)
    held = np.ones((5, 9), np.bool_)
    held[3, 6:] = False
    for k in (1, 4, 9, 12):
        found = expected(scores, held, k)
        for row in range(5):
            many = int(held[row].sum())
            odds = np.exp(scores[row, :many].astype(np.float64))
            chances = 100 * odds / odds.sum()

            def gain(listed: list[int], chances: NDArray[np.float64] = chances) -> float:
                return sum(float(chances[c]) / math.log2(2 + place) for place, c in enumerate(listed))

            best = list(range(min(k, many)))
            for item in best:  # it leaves, those behind it move up, and the best of the others comes last
                rest = [c for c in best if c != item] + ([k] if many > k else [])
                wanted = gain(best) - gain(rest)
                beyond = found[row, k] if many > k else 0.0  # what is expected of the one that came
                assert found[row, item] - beyond == pytest.approx(wanted, abs=1e-9)
            if many > k:  # who comes from behind comes into the last place
                np.testing.assert_allclose(found[row, k:many], chances[k:] / math.log2(1 + k))
            assert (np.diff(found[row, :many]) <= 1e-12).all() and not found[row, many:].any()


def test_expected_knows_sure_lists_from_unsure_ones() -> None:
    """Where scores say which item it is, a list keeps its items; where all are alike, it spreads. Scaled to 0..1 both
    would look the same."""
    sure, unsure = np.linspace(4, -4, 20), np.linspace(0.04, -0.04, 20)
    scores = np.stack([sure, unsure]).astype(np.float32)
    vectors = np.zeros((2, 20, 2), np.float32)
    vectors[:, :10, 0] = vectors[:, 10:, 1] = 1  # the ten best are all alike
    held = np.ones((2, 20), np.bool_)
    chosen = choose(Spread(expected(scores, held, 6), vectors, 0.5), held, free(2, 20), 6)
    assert (chosen < 10).sum(axis=1).tolist() == [6, 3]
    scaled = choose(Spread(relevance(scores, held), vectors, 0.5), held, free(2, 20), 6)
    assert (scaled[0] == scaled[1]).all()


def test_expected_of_no_candidates_and_of_far_scores() -> None:
    scores = np.array([[1e30, 0, -1e30], [5, 5, 5], [0, 0, 0]], np.float32)
    held = np.array([[True] * 3, [True] * 3, [False] * 3])
    found = expected(scores, held, 10)
    assert found[0].tolist() == [100.0, 0.0, 0.0]
    assert found[1] == pytest.approx(100 / 3 / math.log2(4)) and not found[2].any()


authors_of = st.lists(st.lists(st.integers(-1, 4), min_size=12, max_size=12), min_size=1, max_size=5)


@given(authors_of)
def test_occurrence_equals_counting(given_: list[list[int]]) -> None:
    found = occurrence(np.array(given_, np.int32))
    for row, authors in zip(found.tolist(), given_, strict=True):
        assert row == [
            0 if author < 0 else authors[:place].count(author) for place, author in enumerate(authors)
        ]


def test_decay_keeps_a_floor_and_never_raises_a_score() -> None:
    authors = np.array([[5, 5, -1, 5, -1, 2, 5]], np.int32)
    scores = np.array([[6, 5, 4, 3, 2, 1, -1]], np.float32)
    factor = decayed(authors, scores, 0.5, 0.25)
    assert factor.tolist() == [[1.0, 0.625, 1.0, 0.4375, 1.0, 1.0, 1.0]]


@settings(max_examples=60)
@given(
    authors_of,
    st.integers(1, 3),
    st.integers(1, 25),
    st.sampled_from(["best", "mmr", "spread", "expected", "dpp"]),
    st.integers(0, 9),
)
def test_no_author_has_more_than_its_room(
    given_: list[list[int]], most: int, k: int, aim: str, seed: int
) -> None:
    authors = np.repeat(np.array(given_, np.int32), 3, axis=1)  # (B, 36)
    rng = np.random.default_rng(seed)
    relevant, vectors = rng.random(authors.shape), unit(rng, *authors.shape, 4)
    scores = -np.sort(-rng.normal(size=authors.shape), axis=1).astype(np.float32)
    aims = {
        "best": Best(authors.shape),
        "mmr": Mmr(relevant, vectors, 0.7),
        "spread": Spread(relevant, vectors, 0.7),
        "expected": Spread(expected(scores, everything(relevant), k), vectors, 0.5),
        "dpp": Dpp(relevant, vectors, 0.7, k),
    }
    chosen = in_order(choose(aims[aim], everything(relevant), Room(authors, most), k))
    for row, columns in enumerate(chosen.tolist()):
        listed = [int(authors[row, c]) for c in columns if c >= 0]
        assert len(set(columns) - {-1}) == len(listed)
        for stretch in range(1, 4):
            head = [author for author in listed[: 10 * stretch] if author >= 0]
            assert max(map(head.count, head), default=0) <= most * stretch
        if len(listed) < k:  # nothing that fits was left out
            rest = [a for c, a in enumerate(authors[row].tolist()) if c not in columns]
            limit = most * (len(listed) // 10 + 1)
            assert all(a >= 0 and listed.count(a) >= limit for a in rest)
