"""Crediting clicks to published lists: order, repeats, what is beside, and what is not there."""

import json

import pytest

from streams.cli.experiment import document, lines
from streams.errors import UserMistake
from streams.feed.experiments import Join


def listed(user: str, offset: int, items: dict[str, str | None], **more: object) -> bytes:
    places = [
        {"item": item, "score": 1.0, "reasons": []} | ({"team": team} if team else {})
        for item, team in items.items()
    ]
    because = {"topic": "clicks", "partition": 0, "offset": offset}
    value = {
        "id": f"clicks-0-{offset}",
        "user": user,
        "at": 1,
        "model": "m",
        "items": places,
        "because": because,
    }
    return json.dumps(value | {"experiment": "e"} | more).encode()


def clicked(user: str, item: str, kind: str = "click") -> bytes:
    return json.dumps({"id": "x", "user": user, "item": item, "kind": kind, "at": 1_700_000_000_000}).encode()


@pytest.fixture
def join() -> Join:
    made = Join("e")
    made.list(listed("u", 10, {"a": "one", "b": "two", "c": None}))
    made.list(listed("u", 20, {"a": "two", "d": "one"}))
    made.list(listed("u", 20, {"a": "two", "d": "one"}))  # written twice
    made.list(listed("v", 11, {"a": "two"}))
    made.list(b"no JSON")
    return made


def test_a_click_counts_for_the_newest_list_before_it_and_once(join: Join) -> None:
    for offset, user, item in (
        (10, "u", "a"),  # the click that caused the list: before it there was none
        (12, "u", "b"),
        (13, "u", "b"),  # again
        (14, "u", "c"),  # of no team
        (20, "u", "a"),  # still of the list of 10
        (21, "u", "a"),  # of the list of 20
        (22, "nobody", "a"),
    ):
        join.click(0, offset, clicked(user, item))
    join.click(0, 23, clicked("v", "a", "skip"))
    join.click(1, 24, clicked("v", "a"))  # another partition's v
    join.click(0, 25, b"{}")

    found = join.outcome(("two",), seed=1)
    assert found.arms == ("two", "one")
    assert found.clicks == {"two": 2, "one": 1} and found.beside == 2
    assert (found.lists, found.readers) == (3, 2)
    assert found.preference is not None and found.rates == []
    assert (found.preference.first, found.preference.second, found.preference.ties) == (1, 0, 1)


def test_arms_are_compared_with_the_first_one() -> None:
    join = Join("e")
    for reader in range(40):
        join.list(listed(f"u{reader}", reader, {"a": None, "b": None}, arm="new" if reader % 2 else "old"))
    for reader in range(40):
        if reader % 2 or reader < 10:
            join.click(0, 100 + reader, clicked(f"u{reader}", "b"))
    found = join.outcome(("old", "new"), seed=1)

    assert found.clicks == {"old": 5, "new": 20} and found.preference is None and found.mismatch is None
    uneven = join.outcome(("old", "new"), 1, (1.0, 9.0))
    assert uneven.mismatch is not None and uneven.mismatch < 0.001
    assert any("not spread over the arms" in line for line in lines(uneven))
    even = join.outcome(("old", "new"), 1, (1.0, 1.0))
    assert even.mismatch == 1 and not any("not spread" in line for line in lines(even))
    assert [rate.value for rate in found.rates] == [0.25, 1.0]
    assert found.rates[1].difference == 0.75 and found.rates[1].difference_low > 0.4
    text = "\n".join(lines(found))
    assert "old" in text and "+0.7500" in text
    assert document(found)["rates"]["new"]["difference"] == 0.75


def test_an_experiment_that_is_not_there_is_a_mistake_that_names_the_others() -> None:
    join = Join("f")
    join.list(listed("w", 3, {"a": None}))
    join.list(listed("w", 4, {"a": None}, experiment=None))
    with pytest.raises(UserMistake, match=r"no list of experiment f; there are e \(1 lists\), and 1 lists"):
        join.outcome((), seed=1)
