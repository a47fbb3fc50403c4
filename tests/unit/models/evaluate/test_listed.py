"""The row `list`: when lists are made, and what stands behind their places."""

from dataclasses import replace

import numpy as np
import pytest

from made_up_clicks import recording
from models.evaluate.listed import Listed, ListedSettings
from models.evaluate.prequential import Run
from models.evaluate.protocols import plan
from models.evaluate.recording import Recording
from models.evaluate.served import ServedSettings
from models.taste.lists.ordering import Ordering, OrderSettings
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


def test_behind_a_list_stand_all_others_as_the_worker_would_list_them(clicks: Recording) -> None:
    """In the learnt order, and not by the plain score: a list of all items is what is ranked."""
    stages = ListSettings(order=True, candidates=2)
    layer = Listed(clicks.item_names, ServedSettings(), ListedSettings(stages, 2))
    layer._ordering = Ordering(OrderSettings(proposed=1))
    run, differs = Run(clicks, plan(clicks, "next-click"), [layer]), 0
    for number in range(300, 400, 5):
        run.advance(number)
        moment = clicks.moment(number)
        ranked = np.argsort(-layer.scores(moment)[0], kind="stable")
        every, plain = (
            layer._fresh(moment, how, len(layer._index)).lists.items[0]
            for how in (stages, replace(stages, order=False))
        )
        every, plain = every[every > 0] - 1, plain[plain > 0] - 1
        assert sorted(every.tolist()) == sorted(plain.tolist()) and len(every) > 5
        assert ranked[: len(every)].tolist() == every.tolist()
        short = layer._list(moment).lists.items[0]
        assert ranked[:2].tolist() == (short - 1).tolist()
        behind = [item for item in plain.tolist() if item not in every[:6].tolist()]
        differs += behind != every[6:].tolist()
    assert differs > 0


def test_behind_a_diverse_list_stand_the_others_by_what_was_learnt(clicks: Recording) -> None:
    stages = ListSettings(order=True, diversity="mmr", theta=0.1)
    layer = Listed(clicks.item_names, ServedSettings(), ListedSettings(stages, 3))
    Run(clicks, plan(clicks, "next-click"), [layer]).advance(400)
    moment = clicks.moment(400)
    diverse, plain = (np.argsort(-one, kind="stable").tolist() for one in layer.scores(moment))
    assert layer.rows == ("list", "list-plain") and diverse[:3] != plain[:3]
    assert diverse[3:] == [item for item in plain if item not in diverse[:3]]
