"""What readers hid: against a plain reading of their events, however these are cut; bounded, kept, forgotten."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.taste import actions
from models.taste.index import ItemIndex, hash_of
from models.taste.readers.fold import Folded
from models.taste.readers.hidden import MOST_AUTHORS, MOST_ITEMS
from models.taste.readers.users import UserRows
from streams.verify.oracle import left_of

START_MS = 1_700_000_000_000
Event = tuple[int, str, str, str]
"""Reader, item, kind, author or nothing."""


def fold(rows: UserRows, events: Sequence[Event], first: int = 0) -> Folded:
    kinds = actions.codes_of(kind for _, _, kind, _ in events)
    numbers = np.arange(first, first + len(events))
    return rows.fold(
        [f"u{reader}" for reader, _, _, _ in events],
        rows.items.lookup([item for _, item, _, _ in events]),
        kinds,
        actions.weights_of(kinds, np.full(len(events), 25.0)),
        START_MS + numbers,
        numbers,
        authors={n: hash_of(author) for n, (_, _, _, author) in enumerate(events) if author},
    )


def hidden_by(rows: UserRows, reader: int) -> tuple[list[str | None], list[int]]:
    for kept in rows.hidden.of(rows.rows_of([f"u{reader}"])).values():
        return [rows.items.names[item] for item in kept.items.tolist()], kept.authors.tolist()
    return [], []


KINDS = ("hide", "hide", "report", "undo", "undo", "click", "impression")
EVENT = st.tuples(
    st.integers(0, 2),
    st.sampled_from("abcd"),
    st.sampled_from(KINDS),
    st.sampled_from(["", "", "ruth", "zoe"]),
)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(EVENT, min_size=1, max_size=50),
    st.lists(st.integers(0, 50), max_size=5),
    st.sampled_from([2, 5]),
)
def test_it_is_what_a_plain_reading_says_however_it_is_cut(
    events: list[Event], cuts: list[int], ring: int
) -> None:
    whole = UserRows(ItemIndex(), ring=ring)
    fold(whole, events)
    for reader in range(3):
        mine = [
            (n, {"item": item, "kind": kind, "author": author})
            for n, (who, item, kind, author) in enumerate(events)
            if who == reader
        ]
        left = left_of(mine, ring)
        assert hidden_by(whole, reader) == (left.items, [hash_of(one) for one in left.authors])
    parts = UserRows(whole.items, ring=ring)
    for start, stop in pairwise(sorted({0, len(events), *(min(cut, len(events)) for cut in cuts)})):
        fold(parts, events[start:stop], start)
    users = sorted(whole.users())
    states = whole.encode(whole.rows_of(users))
    assert parts.encode(parts.rows_of(users)) == states
    again = UserRows(whole.items, ring=ring)
    again.load(users, states)
    assert again.encode(again.rows_of(users)) == states
    assert all(hidden_by(again, reader) == hidden_by(whole, reader) for reader in range(3))


def test_it_outlives_the_ring_and_an_undo_shows_the_item_again() -> None:
    rows = UserRows(ItemIndex(), ring=4)
    fold(rows, [(0, "x", "hide", "ruth"), *[(0, f"i{n}", "click", "") for n in range(9)]])
    assert hidden_by(rows, 0) == (["x"], [hash_of("ruth")])
    found = fold(rows, [(0, "x", "undo", "")], 20)
    assert (found.shown_again, found.in_vain, len(found.undone.places)) == (1, 0, 0)
    assert hidden_by(rows, 0) == ([], [hash_of("ruth")])
    found = fold(rows, [(0, "x", "undo", "ruth"), (0, "x", "undo", "ruth")], 30)
    assert (found.shown_again, found.in_vain) == (1, 1) and hidden_by(rows, 0) == ([], [])


@pytest.mark.parametrize("at_once", [1, 1000])
def test_the_oldest_falls_out_and_is_counted(at_once: int) -> None:
    rows, fell = UserRows(ItemIndex()), 0
    events: list[Event] = [(0, f"i{n}", "hide", f"a{n % 70}") for n in range(MOST_ITEMS + 40)]
    for start in range(0, len(events), at_once):
        fell += fold(rows, events[start : start + at_once], start).fell_out
    items, authors = hidden_by(rows, 0)
    assert items == [f"i{n}" for n in range(40, MOST_ITEMS + 40)] and len(authors) == MOST_AUTHORS
    assert fell > 40
    (state,) = rows.encode(rows.rows_of(["u0"]))
    assert len(state) == rows.layout.largest_bytes
    empty = UserRows(ItemIndex()).hidden.bytes_used()
    assert 4 * MOST_ITEMS + 8 * MOST_AUTHORS < rows.hidden.bytes_used() - empty < 2048
    assert rows.forget("u0") and rows.hidden.bytes_used() == empty
    assert hidden_by(rows, 0) == ([], [])  # whoever has the row now


def test_an_older_state_or_one_without_takes_nothing_along() -> None:
    rows = UserRows(ItemIndex())
    fold(rows, [(0, "x", "hide", "ruth"), (1, "y", "click", "")])
    states = rows.encode(rows.rows_of(["u0", "u1"]))
    fold(rows, [(0, "x", "undo", "ruth")], 5)
    newer = rows.encode(rows.rows_of(["u0"]))
    other = UserRows(rows.items)
    other.load(["u0", "u1", "u0"], [*states, *newer])
    assert hidden_by(other, 0) == ([], [])
    other.load(["u0"], states[:1])  # behind what is in memory
    assert hidden_by(other, 0) == ([], [])
