"""Visits like this one and what followed the last items: by hand on small streams, and bounded."""

import numpy as np
import pytest

from models.taste.learnt.contexts import KEEP, NAMES, Contexts
from models.taste.learnt.visits import HALF_LIFE_MS, KEPT, Visits

I32 = np.int32


def test_what_visits_alike_had_and_what_came_after_the_shared_item() -> None:
    visits = Visits(10)
    for item in (1, 2, 3):
        visits.learn(7, item, 0)
    visits.learn(8, 4, 0)  # shares nothing
    visits.learn(9, 2, 0)  # the one who asks
    alike, fresh, after = visits.scores(np.array([2], I32), 0, 10, visit=9)
    np.testing.assert_allclose(alike[[1, 2, 3]], 1 / np.sqrt(3))
    np.testing.assert_allclose(fresh, alike)
    assert after[3] == pytest.approx(1 / np.sqrt(3)) and not after[[1, 2]].any()
    assert not alike[[0, 4, 5]].any()
    later = visits.scores(np.array([2], I32), HALF_LIFE_MS, 10, visit=9)
    np.testing.assert_allclose(later[1], alike / 2)
    assert not visits.scores(np.array([5], I32), 0, 10).any()


def test_a_visit_counts_what_it_shares_the_latest_most() -> None:
    visits = Visits(10)
    for visit, items in ((1, (1, 5)), (2, (2, 6))):
        for item in items:
            visits.learn(visit, item, 0)
    alike = visits.scores(np.array([1, 2], I32), 0, 10)[0]
    assert alike[6] == pytest.approx(1 / np.sqrt(2)) and alike[5] == pytest.approx(0.5 / np.sqrt(2))


def test_visits_and_items_are_bounded_and_who_leaves_leaves_no_trace() -> None:
    visits = Visits(100, max_visits=3)
    for visit in range(5):
        visits.learn(visit, visit, 0)
        visits.learn(visit, 50, 0)
    found = visits.scores(np.array([50], I32), 0, 100)[0]
    assert np.flatnonzero(found).tolist() == [2, 3, 4, 50]
    assert not visits.scores(np.array([0], I32), 0, 100).any()
    for item in range(KEPT + 5):
        visits.learn(9, item, 0)
    assert visits._count.max() == KEPT
    with pytest.raises(ValueError, match="at least 1"):
        Visits(0)


def test_what_followed_the_last_items() -> None:
    contexts = Contexts(100)
    for history, item in (([1], 2), ([1, 2], 3), ([1], 2), ([1, 2], 4), ([5, 2], 4)):
        contexts.learn(np.array(history, I32), item)
    found = dict(zip(NAMES, contexts.scores(np.array([1, 2], I32), 10), strict=True))
    assert found["next"][3] == pytest.approx(1 / 4) and found["next"][4] == pytest.approx(2 / 4)
    assert found["pair"][3] == found["pair"][4] == pytest.approx(1 / 3)
    assert found["skip"][3] == found["skip"][4] == pytest.approx(1 / 3)
    assert found["lately"][4] > found["lately"][3] > 0
    assert not contexts.scores(np.array([], I32), 10).any()
    contexts.learn(np.array([2], I32), 2)  # a repeat: followed by itself lately, by others as before
    again = dict(zip(NAMES, contexts.scores(np.array([2], I32), 10), strict=True))
    assert again["lately"][2] > 0 == again["next"][2]


def test_followers_are_bounded() -> None:
    contexts = Contexts(5000)
    for item in range(1, 1000):
        contexts.learn(np.array([0], I32), item)
    assert np.count_nonzero(contexts.scores(np.array([0], I32), 5000)[0]) <= 2 * KEEP
