"""Requests of readers: what their clicks ask for and their own uploads; unknown names are passed over and not kept."""

import json
from typing import Any

import numpy as np
import pytest

from bad_records import FakeRecord, click
from models.taste.index import ItemIndex
from models.taste.items.catalogue import Catalogue, Entry
from models.taste.lists.request import Requests
from streams.codecs import decode_clicks
from streams.events import ListWishes
from streams.taste.wishes import requests_of

USERS = ["ada", "bob", "cleo"]


def made(asked: dict[int, ListWishes], profile_off: bool = False, empty: bool = False) -> Requests:
    catalogue = Catalogue(ItemIndex())
    if not empty:
        catalogue.apply(["a", "b", "c"], [Entry("ada", 0), Entry("zoe", 0), Entry("cleo", 0)])
    before = len(catalogue.items)
    rows = np.array([7, 8, 9], np.int32)
    found = requests_of(rows, np.zeros(3), USERS, asked, catalogue, profile_off)
    assert len(catalogue.items) == before  # nothing is learnt from wishes
    return found


def test_without_wishes_there_are_only_own_uploads() -> None:
    found = made({})
    assert found.anonymous is None and not len(found.wishes.excluded)
    assert found.wishes.blocked.tolist() == [[0, 0], [2, 2]]  # ada and cleo are authors
    assert not len(made({}, empty=True).wishes.blocked)


def test_items_and_authors_by_name_of_that_reader_alone() -> None:
    asked = {1: ListWishes(["c", "nothing", "a"], ["zoe", "nobody"]), 2: ListWishes(exclude=["b"])}
    found = made(asked)
    assert found.wishes.excluded.tolist() == [[1, 3], [1, 1], [2, 2]]
    assert found.wishes.blocked.tolist() == [[1, 1], [0, 0], [2, 2]]


def test_profile_off_looks_at_nothing_of_the_reader_but_keeps_what_was_asked() -> None:
    found = made({0: ListWishes(["b"], ["zoe"], "off")})
    assert found.anonymous is not None and found.anonymous.tolist() == [True, False, False]
    assert found.wishes.excluded.tolist() == [[0, 2]]
    assert found.wishes.blocked.tolist() == [[0, 1], [2, 2]]  # not that ada is an author
    everybody = made({}, profile_off=True)
    assert everybody.anonymous is not None and everybody.anonymous.all()
    assert not len(everybody.wishes.blocked)


def test_wishes_of_clicks_keep_their_places_among_the_good_ones() -> None:
    records = [
        FakeRecord(0, click(0, wishes={"exclude": ["x"]})),
        FakeRecord(1, b"{"),
        FakeRecord(2, click(2, at=5)),  # too long ago
        FakeRecord(3, click(3)),
        FakeRecord(4, click(4, wishes={"profile": "off", "more": 1})),
    ]
    columns = decode_clicks(0, records, 1000)
    assert columns.offsets.tolist() == [0, 3, 4]
    assert columns.wishes == {0: ListWishes(["x"]), 2: ListWishes(profile="off")}


@pytest.mark.parametrize(
    "wishes",
    [
        {"profile": "maybe"},
        {"exclude": "x"},
        {"exclude": [""]},
        {"exclude": ["x"] * 501},
        {"exclude_authors": ["x"] * 101},
        {"exclude_authors": ["x" * 257]},
        [],
    ],
)
def test_wishes_that_are_none_make_the_click_a_dead_letter(wishes: Any) -> None:
    columns = decode_clicks(0, [FakeRecord(0, click(0, wishes=wishes)), FakeRecord(1, click(1))], 1000)
    assert [one.reason for one in columns.rejected] == ["schema"]
    assert columns.offsets.tolist() == [1]
    assert json.loads(click(0, wishes=wishes))["wishes"] == wishes
