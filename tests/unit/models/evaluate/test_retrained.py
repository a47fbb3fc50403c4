"""The rows of a model that is trained on the way: before the first training nothing, then what was learnt."""

from itertools import pairwise

import numpy as np
import pytest

from made_up_clicks import recording
from models.evaluate.listed import Listed, ListedSettings
from models.evaluate.prequential import Run
from models.evaluate.protocols import plan
from models.evaluate.recording import Recording
from models.evaluate.registry import Given, build
from models.evaluate.retrained import Retrained, RetrainedOnline
from models.evaluate.sequential import ONLINE_ROWS, RETRAINED_ROWS, Retraining
from models.evaluate.served import Served, ServedSettings
from models.taste.lists.rank import RankSettings
from models.taste.lists.request import ListSettings
from models.train.online import Online
from models.train.sequence import Recipe


@pytest.fixture(scope="module")
def circle() -> Recording:
    """Twenty readers go round ten items; each visit begins one item further."""
    return recording([(f"u{user}", f"i{(user + step) % 10}") for user in range(20) for step in range(8)])


def made(clicks: Recording, every: int) -> Retrained:
    how = Retraining(every, first_rounds=12, rounds=2)
    (layer,) = build(RETRAINED_ROWS, Given(clicks.item_names, ServedSettings(), retraining=how))
    assert isinstance(layer, Retrained)
    return layer


def test_before_the_first_training_the_blend_is_that_of_the_others(circle: Recording) -> None:
    layer, other = made(circle, 10_000), Served(circle.item_names, ServedSettings())
    Run(circle, plan(circle, "next-click"), [layer, other]).advance(100)
    moment = circle.moment(100)
    alone, blend = layer.scores(moment)
    assert np.isinf(alone).all()
    np.testing.assert_array_equal(blend, other.scores(moment)[other.rows.index("blend")])


def test_what_comes_next_is_learnt_and_cuts_change_nothing(circle: Recording) -> None:
    """A training falls behind the same event, whether events are handed in one by one or together."""
    todo = plan(circle, "next-click")
    whole, pieces = made(circle, 60), made(circle, 60)
    Run(circle, todo, [whole]).advance(155)
    run = Run(circle, todo, [pieces])
    for stop in (1, 59, 61, 130, 155):
        run.advance(stop)
    moment = circle.moment(155)  # the last reader after three items
    (alone, blend), (again, also) = whole.scores(moment), pieces.scores(moment)
    np.testing.assert_array_equal(alone, again)
    np.testing.assert_allclose(blend, also, atol=1e-6)  # the counts are sums in another order
    assert alone.argmax() == circle.items[155]


def test_the_calibrated_blend_takes_it_as_a_part_once_it_is_there(circle: Recording) -> None:
    """Without a model it is the blend without it, to rounding; with one, its weights are learnt."""
    blends = []
    for every in (10_000, 60):
        given = Given(circle.item_names, ServedSettings(), retraining=Retraining(every, first_rounds=12))
        layers = build((*ONLINE_ROWS, "blend-online"), given)
        Run(circle, plan(circle, "next-click"), layers).advance(155)
        found = {
            row: scores
            for one in layers
            for row, scores in zip(one.rows, one.scores(circle.moment(155)), strict=True)
        }
        blends.append(next(one for one in layers if isinstance(one, RetrainedOnline))._blend)
        same = np.allclose(found["retrained-online"], found["blend-online"], rtol=1e-4, atol=1e-5)
        assert same == (every == 10_000)
    without, with_model = blends
    last = slice(without.features - 3, without.features)
    assert not without.weights[last].any()
    assert with_model.weights[last].max() > 0.05


def listed(clicks: Recording, every: int | None, order: bool) -> Listed:
    stages = ListedSettings(ListSettings(order=order), 3)
    how = None if every is None else Retraining(every, first_rounds=12, rounds=2)
    served = ServedSettings(rank=RankSettings(counts=False, taste=0.0))  # what is popular, and the model
    (layer,) = build(("list",), Given(clicks.item_names, served, retraining=how, listed=stages))
    assert isinstance(layer, Listed)
    return layer


@pytest.mark.parametrize("order", [False, True])
def test_lists_take_the_model_as_a_source_from_its_first_training_on(circle: Recording, order: bool) -> None:
    """Before it they are those without; behind it the next item leads, wherever the events are cut."""
    todo = plan(circle, "next-click")
    without, later = listed(circle, None, order), listed(circle, 60, order)
    for layer in (without, later):
        Run(circle, todo, [layer]).advance(59)
    np.testing.assert_array_equal(without.scores(circle.moment(59)), later.scores(circle.moment(59)))
    assert "sequence" not in sources(later, circle, 59)

    whole, pieces = listed(circle, 60, order), listed(circle, 60, order)
    Run(circle, todo, [whole]).advance(155)
    run = Run(circle, todo, [pieces])
    for stop in (1, 59, 61, 130, 155):
        run.advance(stop)
    moment = circle.moment(155)
    assert whole.scores(moment)[0].argmax() == pieces.scores(moment)[0].argmax() == circle.items[155]
    assert "sequence" in sources(whole, circle, 155)


def sources(layer: Listed, clicks: Recording, number: int) -> tuple[str, ...]:
    return layer._list(clicks.moment(number)).lists.sources


def test_twice_as_many_events_begin_anew() -> None:
    online = Online(6, Recipe(dropout=0.0), first_rounds=1, rounds=1)
    fits = []
    for _ in range(5):
        online.take([0, 1, 0, 1], [0, 1, 2, 3])
        weights = online.train()
        assert all(np.isfinite(value).all() for value in weights.values())
        fits.append(online._fit)
    assert [a is b for a, b in pairwise(fits)] == [False, True, False, True]
