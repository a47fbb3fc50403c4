"""Pairs over a window against plain dictionaries; a walk reaches what one step does not; trends forget by events."""

from collections import defaultdict

import numpy as np
import pytest

from models.taste.learnt.pairs import Pairs, PairSettings, walked
from models.taste.learnt.trends import PLACES, Trends, place

ITEMS = 25


def histories(seed: int, readers: int = 30, length: int = 20) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, ITEMS, length).tolist() for _ in range(readers)]


@pytest.mark.parametrize("how", [PairSettings(keep=ITEMS), PairSettings(5, 0.7, 0.6, 0.0, 0.4, 0.3, ITEMS)])
def test_scores_equal_plain_dictionaries(how: PairSettings) -> None:
    pairs = Pairs(how, items=2)  # grows
    count: dict[tuple[int, int], float] = defaultdict(float)
    row, column = [0.0] * ITEMS, [0.0] * ITEMS
    for history in histories(1):
        for n, item in enumerate(history):
            pairs.learn(np.array(history[:n], np.int32), item)
            for k, other in enumerate(history[:n][::-1][: how.window]):
                if other != item:
                    for a, b, weight in ((other, item, 1.0), (item, other, how.symmetry)):
                        given = weight * how.discount**k
                        count[a, b] += given
                        row[a] += given
                        column[b] += given
    recent = histories(2)[0]
    expected = [
        sum(
            how.order_decay**k
            * count[j, i]
            / ((1 + row[j]) ** how.row_power * (1 + column[i]) ** how.popularity_power)
            for k, j in enumerate(recent[::-1][: how.window])
        )
        for i in range(ITEMS)
    ]
    np.testing.assert_allclose(pairs.scores(np.array(recent, np.int32), ITEMS), expected, rtol=1e-5)


def test_rows_are_bounded_and_unknown_items_say_nothing() -> None:
    pairs = Pairs(PairSettings(keep=4))
    for history in histories(3):
        for n, item in enumerate(history):
            pairs.learn(np.array(history[:n], np.int32), item)
    assert pairs.counts.keys.shape[1] == 4
    assert not pairs.scores(np.array([9_999], np.int32), ITEMS).any()
    assert not pairs.scores(np.array([], np.int32), ITEMS).any()
    assert np.count_nonzero(pairs.scores(np.array([3], np.int32), ITEMS)) == 4


def test_a_walk_finds_what_goes_with_what_goes_with_it() -> None:
    pairs = Pairs(PairSettings(symmetry=0))
    for earlier, later in ((0, 1), (1, 2), (1, 2), (1, 3)):
        pairs.learn(np.array([earlier], np.int32), later)
    one = pairs.scores(np.array([0], np.int32), 5)
    assert np.flatnonzero(one).tolist() == [1]
    rows = np.array([1.0, 3, 0, 0, 0])
    two = walked(one, pairs.counts, rows, np.ones(5, np.float32), 0.5)
    assert two.tolist() == pytest.approx([0, 0, 2 / 2, 1 / 2, 0])
    assert not walked(np.zeros(5, np.float32), pairs.counts, rows, np.ones(5, np.float32), 0.5).any()


def test_trends_forget_by_events_and_know_newcomers_from_old_readers() -> None:
    trends = Trends(2, half_life_events=10)
    for had, item in [(1, 0)] * 10 + [(400, 7)] * 10:
        trends.learn(had, item)
    recent = trends.recent(8)
    assert recent[0] == pytest.approx(recent[7] / 2, rel=1e-5)
    assert trends.at_place(1, 8)[[0, 7]].tolist() == [10, 0] and trends.at_place(300, 8)[[0, 7]].tolist() == [
        0,
        10,
    ]
    for _ in range(1000):
        trends.learn(1, 1)
    assert np.isfinite(trends.recent(8)).all() and trends.recent(8)[1] == pytest.approx(
        1 / (1 - 2**-0.1), rel=1e-4
    )
    assert [place(had) for had in (0, 1, 3, 10**9)] == [0, 0, 2, PLACES - 1]
    with pytest.raises(ValueError, match="half-life"):
        Trends(half_life_events=0)
