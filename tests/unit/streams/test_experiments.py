"""Readers in arms, interleaved lists with teams, and whose the clicks are; one experiment after the other."""

import numpy as np
import pytest
from numpy.typing import NDArray

from models.experiments.credit import Credits
from models.taste.actions import codes_of
from models.taste.lists.request import ListSettings
from streams.events import Reason, Recommended
from streams.observe.catalogue import Metrics
from streams.sections.experiments import Experiment
from streams.sections.taste import Listing
from streams.taste.experiments import Experiments, Published
from streams.taste.maker import list_settings

USERS = [f"u{n}" for n in range(200)]
SIZE = 4


def two_arms(**more: object) -> Experiment:
    given = {"arms": [{"name": "old"}, {"name": "new", "list": {"taste": 0.7}}], **more}
    return Experiment.model_validate(given)


class Bench:
    """Experiments whose lists say which settings made them."""

    def __init__(self, remembered: int = 1000, **experiments: Experiment) -> None:
        self.metrics = Metrics("test")
        base = Listing(popularity=0.3)
        self.all = Experiments(experiments, base, list_settings, remembered, self.metrics)

    def make(self, places: NDArray[np.int64], how: ListSettings) -> list[list[Recommended]]:
        assert how.rank.popularity == 0.3  # an arm overrides, it does not begin anew
        letter = "n" if how.rank.taste == 0.7 else "o"
        names = ["both", *(f"{letter}{n}" for n in range(SIZE))][:SIZE]
        return [[Recommended(name, 1.0, [Reason("after", 1.0)]) for name in names] for _ in places]

    def lists(self, users: list[str], first: int = 0) -> list[Published]:
        offsets = np.arange(first, first + len(users))
        return self.all.lists(users, np.zeros(len(users), np.int32), offsets, SIZE, self.make)

    def clicks(self, users: list[str], items: list[str], kind: str = "click") -> None:
        kinds = codes_of([kind] * len(users))
        self.all.credit(users, items, kinds, np.ones(len(users), np.bool_))

    def value(self, name: str, *labels: str) -> float:
        return float(getattr(self.metrics, name).labels(*labels)._value.get())


def test_without_experiments_all_lists_are_of_the_settings_alone() -> None:
    bench = Bench()
    found = bench.lists(USERS)
    assert not bench.all and {one.items[1].item for one in found} == {"o0"}
    assert {(one.experiment, one.arm) for one in found} == {(None, None)}


def test_each_reader_gets_the_lists_of_one_arm_with_its_name() -> None:
    bench = Bench(colours=two_arms())
    found = bench.lists(USERS)
    by_arm = {arm: [one for one in found if one.arm == arm] for arm in ("old", "new")}

    assert 70 < len(by_arm["old"]) < 130 and len(by_arm["old"]) + len(by_arm["new"]) == 200
    assert {one.items[1].item for one in by_arm["old"]} == {"o0"}
    assert {one.items[1].item for one in by_arm["new"]} == {"n0"}
    assert {one.experiment for one in found} == {"colours"}
    assert [one.arm for one in bench.lists(USERS, 500)] == [one.arm for one in found]
    asked = [bench.all.settings_of(user).rank.taste == 0.7 for user in USERS]
    assert asked == [one.arm == "new" for one in found]
    assert bench.value("arm_lists", "colours", "new") == 2 * len(by_arm["new"])


def test_a_reader_is_in_the_first_experiment_that_draws_them() -> None:
    bench = Bench(one=two_arms(share=0.5), two=two_arms(share=0.5))
    counts = dict.fromkeys(("one", "two", None), 0)
    for published in bench.lists(USERS):
        counts[published.experiment] += 1
        assert (published.arm is None) == (published.experiment is None)
    assert 70 < counts["one"] < 130 and 25 < counts["two"] < 75 and 25 < counts[None] < 75


def test_interleaved_lists_hold_both_arms_and_each_item_its_team() -> None:
    bench = Bench(mixed=two_arms(show="interleaved"))
    found = bench.lists(USERS)

    for one in found:
        assert (one.experiment, one.arm, len(one.items)) == ("mixed", None, SIZE)
        names = [item.item for item in one.items]
        assert len(set(names)) == SIZE and names[0] == "both"
        assert [item.team for item in one.items].count("old") == SIZE // 2
        for item in one.items[1:]:
            assert item.team == {"o": "old", "n": "new"}[item.item[0]]
    assert 60 < sum(one.items[0].team == "old" for one in found) < 140  # the coin
    assert bench.lists(USERS) == found  # a replay makes the same
    assert bench.lists(USERS, 7000) != found


def test_a_click_is_a_point_for_its_team_once() -> None:
    bench = Bench(mixed=two_arms(show="interleaved"))
    (one,) = bench.lists(["u1"])
    new = next(item.item for item in one.items if item.team == "new")
    bench.clicks(["u1", "u1", "u1", "u9"], [new, new, "elsewhere", new])

    assert bench.value("arm_clicks", "mixed", "new") == 1
    assert bench.value("arm_clicks", "mixed", "old") == 0
    assert bench.value("arm_uncredited", "mixed") == 3
    bench.clicks(["u1"], [one.items[-1].item], "skip")
    assert bench.value("arm_uncredited", "mixed") == 3  # what says nothing good is no point


def test_a_click_in_an_arm_is_a_point_for_the_arm() -> None:
    bench = Bench(colours=two_arms())
    found = bench.lists(USERS)
    bench.clicks(USERS, ["both"] * len(USERS))

    new = sum(one.arm == "new" for one in found)
    assert bench.value("arm_clicks", "colours", "new") == new
    assert bench.value("arm_clicks", "colours", "old") == len(USERS) - new


def test_what_is_remembered_is_bounded_and_goes_with_the_partition() -> None:
    bench = Bench(remembered=10, colours=two_arms())
    bench.lists(USERS)
    bench.clicks(USERS, ["both"] * len(USERS))
    points = bench.value("arm_clicks", "colours", "new") + bench.value("arm_clicks", "colours", "old")
    assert points == 10 and bench.value("arm_uncredited", "colours") == len(USERS) - 10
    bench.lists(["u1"])
    bench.all.drop(0)
    bench.clicks(["u1"], ["both"])
    assert bench.value("arm_uncredited", "colours") == len(USERS) - 9


def test_credits_keep_the_newest_list_and_forget_a_reader() -> None:
    credits = Credits(2)
    credits.show("a", 0, 3, {"x": 0, "y": None})
    assert credits.click("a", "y") is None and credits.click("a", "x") == (3, 0)
    credits.show("a", 0, 3, {"x": 1})
    assert credits.click("a", "x") == (3, 1)
    credits.show("b", 1, 3, {"x": 1})
    credits.forget("b")
    assert credits.click("b", "x") is None and len(credits) == 1


@pytest.mark.parametrize("size", [1, SIZE])
def test_short_lists_are_interleaved_too(size: int) -> None:
    bench = Bench(mixed=two_arms(show="interleaved"))

    def make(places: NDArray[np.int64], how: ListSettings) -> list[list[Recommended]]:
        some = [Recommended("only", 1.0, [])] if how.rank.taste == 0.7 else []
        return [some for _ in places]

    offsets = np.arange(3)
    found = bench.all.lists(USERS[:3], np.zeros(3, np.int32), offsets, size, make)
    assert [[(item.item, item.team) for item in one.items] for one in found] == [[("only", None)]] * 3
