"""Lists on the wire: reasons add up whatever the sign of the score; exploration is its own reason."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from models.taste.actions import WEIGHTS, weight_table
from models.taste.lists.rank import RankSettings
from models.taste.lists.reasons import Lists
from models.taste.lists.request import ListSettings
from streams.events import Recommendation
from streams.sections.taste import Listing, Weights
from streams.taste.lists import named, recommendation
from streams.taste.maker import list_settings

NAMES = [None, "had", "a", "b", "c"]


def made() -> Lists:
    by_past = np.array([[[0.5, 0.1], [0.1, 0.0], [0.0, 0.0]]], np.float32)
    layers = np.array([[[0.6, -0.1, 0.3], [0.1, -0.5, 0.0], [0.0, 0.0, 0.0]]], np.float32)
    scores = layers.sum(axis=2)
    because = np.array([[0, 0, -1]])
    share = np.array([[0.5 / 0.8, 0.0, 0.0]], np.float32)
    past, zeros = np.array([[1, 1]], np.int32), np.zeros((1, 2), np.int64)
    nothing = np.zeros((1, 3), np.float32)
    items = np.array([[2, 3, 4]], np.int32)
    return Lists(
        items, scores, layers, by_past, past, zeros.astype(np.int8), zeros, because, share, nothing, nothing
    )


def test_shares_add_up_to_the_sign_of_the_score() -> None:
    first, second, third = named(made(), NAMES)[0]
    assert first.item == "a" and sum(reason.share for reason in first.reasons) == pytest.approx(1, abs=1e-3)
    assert second.score < 0
    assert sum(reason.share for reason in second.reasons) == pytest.approx(-1, abs=1e-3)
    assert {r.type: r.share for r in second.reasons}["taste"] == pytest.approx(-1.25, abs=1e-3)
    assert third.score == 0 and third.reasons == []


def test_an_explored_item_says_so_with_its_propensity_and_others_have_none() -> None:
    lists = made()
    third = np.array([[0, 0, 0.0625]], np.float32)
    lists = replace(lists, scores=lists.scores + third, explored=third, propensity=2 * third)
    value, _ = recommendation("ada", 3, 9, 17, named(lists, NAMES)[0])
    back = msgspec.json.decode(value, type=Recommendation)
    assert [item.propensity for item in back.items] == [None, None, 0.125]
    assert [(r.type, r.share) for r in back.items[2].reasons] == [("exploration", 1.0)]
    assert back.items[2].score == 0.0625
    assert value.count(b"propensity") == 1


def test_default_settings_are_those_of_the_pipeline_and_each_one_reaches_it() -> None:
    assert list_settings(Listing()) == ListSettings()
    changed = Listing(
        counts=False, taste=0.7, popularity=0.2, walk=0.4, repeat=True, diversity="calibration", theta=0.6,
        max_age_s=1.5, only_catalogued=True, blocked_authors=("a", "b"),
        author_decay=0.9, author_floor=0.1, author_most=2, calibration=0.3,
        candidates=50, explore_below=9.0, explore_place=3, ctr0=0.01,
    )  # fmt: skip
    own = list_settings(Listing(own_first=True))
    assert own.own_first and own.rank.repeat
    assert list_settings(changed) == ListSettings(
        rank=RankSettings(counts=False, taste=0.7, popularity=0.2, walk=0.4, repeat=True),
        candidates=50,
        author_decay=0.9,
        author_floor=0.1,
        author_most=2,
        diversity="calibration",
        calibration=0.3,
        max_age_ms=1500,
        blocked_authors=("a", "b"),
        only_catalogued=True,
        theta=0.6,
        explore_below=9.0,
        explore_place=3,
        ctr0=0.01,
    )


def test_default_weights_are_those_of_the_model() -> None:
    np.testing.assert_array_equal(weight_table(Weights().model_dump()), WEIGHTS)
