"""Kinds, their codes and weights."""

import math

import numpy as np
import pytest

from models.taste import actions


def test_codes_are_those_of_version_1() -> None:
    """Codes lie in stored rings: a new kind goes to the end, none ever moves."""
    kinds = ["impression", "skip", "click", "dwell", "complete", "like"]
    kinds += ["save", "share", "follow", "hide", "report", "undo"]
    assert [actions.CODES[kind] for kind in kinds] == list(range(12))


def test_weights() -> None:
    kinds = actions.codes_of([*actions.KINDS, "dwell", "dwell", "dwell"])
    dwell_s = [math.nan] * 12 + [10.0, 1e9, -5.0]
    expected = [-0.05, -0.2, 1, 0, 2, 2, 3, 4, 4, -4, -10, 0, math.log(2), 2, 0]
    assert actions.weights_of(kinds, dwell_s).tolist() == pytest.approx(expected, rel=1e-6)
    assert actions.weights_of(kinds, dwell_s).dtype == np.float32


def test_what_speaks_for_an_item_and_what_hides_it() -> None:
    codes = actions.codes_of(actions.KINDS)
    positive = {kind for kind, good in zip(actions.KINDS, actions.is_positive(codes), strict=True) if good}
    assert positive == {"click", "dwell", "complete", "like", "save", "share", "follow"}
    hiding = {kind for kind, bad in zip(actions.KINDS, actions.is_hiding(codes), strict=True) if bad}
    assert hiding == {"hide", "report"}


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(KeyError):
        actions.codes_of(["lick"])


def test_default_weights_are_those_that_the_settings_name_and_one_can_be_changed() -> None:
    table = actions.weight_table({"click": 0.5, "dwell": 0.25})
    kinds = actions.codes_of(["click", "dwell", "like", "hide"])
    assert actions.weights_of(kinds, np.array([0, 600.0, 0, 0]), table).tolist() == [0.5, 0.25, 2.0, -4.0]
    assert actions.weight_table({}).tolist() == actions.WEIGHTS.tolist()
    with pytest.raises(ValueError, match="there is no such kind"):
        actions.weight_table({"clik": 1.0})
    with pytest.raises(ValueError, match="takes an event back"):
        actions.weight_table({"undo": -1.0})
