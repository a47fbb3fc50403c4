"""The row `list`: when lists are made, and what stands behind their places."""

import numpy as np
import pytest

from made_up_clicks import recording
from models.evaluate.listed import Listed, ListedSettings
from models.evaluate.prequential import Run
from models.evaluate.protocols import plan
from models.evaluate.recording import Recording
from models.evaluate.served import ServedSettings
from models.taste.lists.request import ListSettings

DAY_MS, ITEMS = 86_400_000, 12


@pytest.fixture(scope="module")
def clicks() -> Recording:
    """Readers who go round in a circle, and at some place of it leave for a day: then the next is what all come back
    to, `home`."""
    pairs, times = [], []
    rng = np.random.default_rng(3)
    for user in range(60):
        at, begin = user * 10_000, int(rng.integers(ITEMS))
        pause = int(rng.integers(2, 7))
        for step in range(8):
            at += DAY_MS if step == pause else 5_000
            name = "home" if step == pause else f"i{(begin + step) % ITEMS}"
            pairs.append((f"u{user}", name))
            times.append(at)
    order = np.argsort(times, kind="stable").tolist()
    return recording([pairs[n] for n in order], [times[n] for n in order])


def layer_of(clicks: Recording, asked: bool) -> Listed:
    return Listed(
        clicks.item_names, ServedSettings(), ListedSettings(ListSettings(order=True), 3, asked=asked)
    )


def test_who_comes_back_after_a_pause_is_listed_what_is_chosen_then(clicks: Recording) -> None:
    """At the last click nobody knows of the pause; a list that is asked for later does."""
    home = clicks.item_names.index("home")
    coming = np.flatnonzero((clicks.items == home) & (clicks.gaps_ms() > DAY_MS // 2))[-20:].tolist()
    going_on = np.flatnonzero((clicks.gaps_ms() > 0) & (clicks.gaps_ms() < DAY_MS // 2))[-60:].tolist()
    first = {}
    for asked in (False, True):
        layer = layer_of(clicks, asked)
        run = Run(clicks, plan(clicks, "next-click"), [layer])
        tops = {}
        for number in sorted({*coming, *going_on}):
            run.advance(number)
            tops[number] = int(layer.scores(clicks.moment(number))[0].argmax())
        first[asked] = (
            np.mean([tops[number] == home for number in coming]),
            np.mean([tops[number] == clicks.items[number] for number in going_on]),
        )
    assert first[True][0] > 0.9 > 0.5 > first[False][0]
    assert first[True][1] >= first[False][1] - 0.05


def test_cuts_change_nothing_of_what_is_learnt_from_lists_that_are_asked_for(clicks: Recording) -> None:
    todo = plan(clicks, "next-click")
    whole, pieces = layer_of(clicks, True), layer_of(clicks, True)
    Run(clicks, todo, [whole]).advance(300)
    run = Run(clicks, todo, [pieces])
    for stop in (1, 2, 150, 151, 299, 300):
        run.advance(stop)
    moment = clicks.moment(300)
    np.testing.assert_array_equal(whole.scores(moment), pieces.scores(moment))
    assert whole._ordering is not None and whole._ordering.choices > 100


def test_behind_a_list_stand_the_places_of_a_longer_one(clicks: Recording) -> None:
    """The first places are those of the short list; what a diverse list left out stands by its plain score."""
    short, long = layer_of(clicks, False), layer_of(clicks, False)
    short._size = 3
    scores = []
    for layer in (short, long):
        Run(clicks, plan(clicks, "next-click"), [layer]).advance(400)
        scores.append(layer.scores(clicks.moment(400))[0])
    first, second = (np.argsort(-one, kind="stable") for one in scores)
    assert first[:3].tolist() == second[:3].tolist() and first.tolist() != second.tolist()
    made = long._list(clicks.moment(400)).lists.items[0]
    assert second[: len(made[made >= 0])].tolist() == (made[made >= 0] - 1).tolist()
    diverse = ListedSettings(ListSettings(order=True, diversity="mmr"), 3)
    assert Listed(clicks.item_names, ServedSettings(), diverse)._size == 3
