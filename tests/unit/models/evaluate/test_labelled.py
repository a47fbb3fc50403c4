"""Accuracy, F1 and ranks against figures by hand."""

import pytest

from models.evaluate.labelled import classified, ranked, share_of

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
    found = ranked(["a"] * 4, answers, seed=1)
    assert (found.top1.value, found.top5.value) == (0.25, 0.5)


def test_nothing_has_no_share() -> None:
    with pytest.raises(ValueError, match="nothing"):
        classified([], [], seed=1)
    with pytest.raises(ValueError, match="nothing"):
        share_of(*([],) * 2, seed=1)  # type: ignore[arg-type]
