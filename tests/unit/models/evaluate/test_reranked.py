"""The row `reranked`: no peeking, the same result however events are cut, candidates above all others."""

import numpy as np
import pytest

from models.evaluate.prequential import Judge, Run
from models.evaluate.protocols import plan
from models.evaluate.recording import Recording
from models.evaluate.reranked import Reranked
from models.evaluate.served import ServedSettings
from models.taste import actions
from models.taste.learnt.reranker import RerankSettings

ITEMS = 20
NAMES = tuple(f"i{n}" for n in range(ITEMS))
HOW = RerankSettings(candidates=12, hidden=16, rate=1e-2, group=16, again=4)


def recording(events: int, seed: int = 3) -> Recording:
    """Readers walk along a ring of items, and half of the time stay where they are."""
    rng = np.random.default_rng(seed)
    users, at = rng.integers(0, 20, events), dict[int, int]()
    items = []
    for user in users.tolist():
        at[user] = (at.get(user, int(rng.integers(ITEMS))) + int(rng.integers(2))) % ITEMS
        items.append(at[user])
    return Recording(
        users, np.array(items), 1_700_000_000_000 + 60_000 * np.arange(events),
        np.full(events, actions.CODES["click"], np.int8), np.ones(events, np.float32), NAMES,
    )  # fmt: skip


def layer(repeats: bool = True) -> Reranked:
    return Reranked(NAMES, ServedSettings(), repeats, HOW)


@pytest.mark.parametrize("cut", [1, 7, 300])
def test_the_result_does_not_depend_on_how_events_are_cut(cut: int) -> None:
    what = recording(300)
    whole, parts = layer(), layer()
    events = list(what.events(np.arange(299)))
    for event in events:
        whole.scores(event.moment)  # being asked changes nothing
        whole.follow([event])
        whole.learn([event])
    for start in range(0, 299, cut):
        parts.follow(events[start : start + cut])
        parts.learn(events[start : start + cut])
    last = what.moment(299)
    np.testing.assert_array_equal(whole.scores(last), parts.scores(last))
    assert whole._network.choices == parts._network.choices > 150


def test_what_comes_later_changes_nothing_before() -> None:
    what = recording(240)
    short = Recording(
        what.users[:200], what.items[:200], what.at_ms[:200], what.kinds[:200], what.weights[:200], NAMES
    )
    found = []
    for one in (what, short):
        made = layer()
        for event in one.events(np.arange(199)):
            made.follow([event])
            made.learn([event])
        found.append(made.scores(one.moment(199)))
    np.testing.assert_array_equal(*found)


def test_candidates_stand_above_the_others_and_own_items_only_where_they_may_be_right() -> None:
    what = recording(200)
    for repeats in (True, False):
        made = layer(repeats)
        judged = Run(what, plan(what, "next-click", not repeats, 0, 0.5), [made]).score(
            Judge([made], made.rows, 5, np.ones((ITEMS, 1), np.float32))
        )
        moment = what.moment(199)
        _, candidates, x = made._asked(moment)
        scores = made.scores(moment)[0]
        others = np.delete(scores, candidates)
        assert len(candidates) == HOW.candidates and scores[candidates].min() > others.max()
        assert np.isin(moment.history, candidates).all() == repeats
        assert np.isfinite(x).all() and np.isfinite(judged.ranks).all()
