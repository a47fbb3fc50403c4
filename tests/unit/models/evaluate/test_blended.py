"""The calibrated blend as a row: no peeking, the same result however events are cut, better than its parts can be."""

import numpy as np
import pytest
from numpy.typing import NDArray

from models.evaluate.blended import OWN, Blended, own_places
from models.evaluate.prequential import Judge, Run
from models.evaluate.protocols import plan
from models.evaluate.recording import Recording
from models.evaluate.served import ServedSettings
from models.taste import actions

F32 = NDArray[np.float32]
ITEMS = 24


def recording(events: int = 900, seed: int = 3) -> Recording:
    """Readers walk along a ring of items, and now and then come back to the one before."""
    rng = np.random.default_rng(seed)
    users = rng.integers(0, 60, events)
    at: dict[int, tuple[int, int]] = {}
    items = []
    for user in users.tolist():
        now, before = at.get(user, (int(rng.integers(ITEMS)), -1))
        back = before >= 0 and rng.random() < 0.3
        item = before if back else (now + int(rng.integers(1, 3))) % ITEMS
        items.append(item)
        at[user] = (item, now)
    return Recording(
        users, np.array(items), 1_700_000_000_000 + 1000 * np.arange(events),
        np.full(events, actions.CODES["click"], np.int8), np.ones(events, np.float32),
        tuple(f"i{n}" for n in range(ITEMS)),
    )  # fmt: skip


def blended(repeats: bool) -> Blended:
    return Blended(tuple(f"i{n}" for n in range(ITEMS)), ServedSettings(), repeats)


def hits(new_only: bool, share: float) -> dict[str, float]:
    what = recording()
    todo = plan(what, "next-click", new_only, 0, share)
    vectors = np.ones((ITEMS, 1), np.float32)
    layer = blended(not new_only)
    found = Run(what, todo, [layer]).score(Judge([layer], layer.rows, 3, vectors))
    return {row: float((found.ranks[n] <= 3).mean()) for n, row in enumerate(found.rows)}


def test_it_beats_chance_by_far_and_learns_how_readers_come_back() -> None:
    with_repeats = hits(False, 0.5)
    assert with_repeats["blend-online"] > 0.6 > 3 * 3 / ITEMS
    assert (
        with_repeats["blend-online"] > with_repeats["own-online"] + 0.1
    )  # own first is wrong two times of three
    new_only = hits(True, 0.5)
    assert new_only["blend-online"] > max(new_only["walk"], new_only["nearest"], 0.5)


@pytest.mark.parametrize("cut", [1, 7, 900])
def test_weights_and_scores_do_not_depend_on_how_events_are_cut(cut: int) -> None:
    what = recording(300)
    whole, parts = blended(True), blended(True)
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
    assert whole._blend.encode() == parts._blend.encode() and whole._blend.choices > 200


def test_events_that_are_learnt_late_do_not_teach_the_weights_what_their_reader_already_has() -> None:
    what, layer = recording(300), blended(True)
    events = list(what.events(np.arange(300)))
    layer.follow(events)
    layer.scores(what.moment(299))  # the readers' own states are up to date
    layer.learn(events)
    assert layer._blend.choices == 0


def test_places_of_own_items() -> None:
    history = np.array([9, 1, 2, 3, 4, 5, 6, 6], np.int32)
    found = own_places(history, ITEMS)
    assert found.shape == (OWN, ITEMS)
    assert [int(found[: OWN - 2, item].argmax()) for item in (6, 5, 4, 3, 2, 1, 9)] == [0, 1, 2, 3, 4, 5, 5]
    assert found[: OWN - 2].sum() == 7 and np.flatnonzero(found[OWN - 2]).tolist() == [6]
    assert np.flatnonzero(found[OWN - 1]).tolist() == [6]
    assert not own_places(history[:0], ITEMS).any()
