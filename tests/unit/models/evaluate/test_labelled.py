"""Accuracy, F1 and ranks against figures by hand."""

import pytest

from models.evaluate.labelled import classified, ranked, share_of, wilson

RIGHT = ["cat", "cat", "cat", "dog", "dog", "owl"]
GIVEN = ["cat", "cat", "dog", "dog", "error", "dog"]


def test_figures_by_hand() -> None:
    found = classified(RIGHT, GIVEN, seed=1)
    assert found.accuracy.value == pytest.approx(3 / 6)
    by_name = {one.name: one for one in found.classes}
    assert set(by_name) == {"cat", "dog", "owl"}, "classes are those that references name"
    assert (by_name["cat"].precision, by_name["cat"].recall, by_name["cat"].f1) == (
        1.0,
        2 / 3,
        pytest.approx(0.8),
    )
    assert (by_name["dog"].precision, by_name["dog"].recall) == (1 / 3, 0.5)
    assert by_name["owl"].f1 == 0.0
    assert found.macro_f1.value == pytest.approx((0.8 + 0.4 + 0.0) / 3)
    assert found.confused == (("cat", "dog", 1), ("dog", "error", 1), ("owl", "dog", 1))


def test_intervals_hold_the_figure_and_a_seed_gives_the_same() -> None:
    found = classified(RIGHT * 40, GIVEN * 40, seed=1)
    for share in (found.accuracy, found.macro_f1):
        assert 0 <= share.low < share.value < share.high <= 1
    assert found == classified(RIGHT * 40, GIVEN * 40, seed=1)
    perfect = classified(RIGHT, RIGHT, seed=1).accuracy
    assert (perfect.low, perfect.high) == (1.0, 1.0)


def test_first_and_among_five() -> None:
    answers = [["a", "b"], ["b", "a"], ["x", "y", "z", "v", "w", "a"], []]
    found = ranked(["a"] * 4, answers)
    assert (found.top1.value, found.top5.value) == (0.25, 0.5)


def test_all_right_of_few_is_not_certain() -> None:
    """Against the tables of Newcombe, 1998 (method 3): 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    for hits, inputs, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (40, 40, 0.9124, 1.0),
    ):
        found = wilson(hits, inputs)
        assert (found.low, found.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_nothing_has_no_share() -> None:
    with pytest.raises(ValueError, match="nothing"):
        classified([], [], seed=1)
    with pytest.raises(ValueError, match="nothing"):
        share_of(*([],) * 2, seed=1)  # type: ignore[arg-type]
