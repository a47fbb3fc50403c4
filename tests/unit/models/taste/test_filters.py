"""Each bar against a plain loop, and the mask for all of them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.taste import actions
from models.taste.index import ItemIndex
from models.taste.items.catalogue import Catalogue, Entry
from models.taste.lists.filters import Wishes, had, mask, of_authors, too_old
from models.taste.readers.users import UserRows

HIDE, CLICK, REPORT, SKIP = (actions.CODES[kind] for kind in ("hide", "click", "report", "skip"))


def pairs(found: np.ndarray) -> set[tuple[int, int]]:  # type: ignore[type-arg]
    return {(int(a), int(b)) for a, b in found}


def test_all_of_the_ring_is_barred_or_only_what_was_hidden() -> None:
    users = UserRows(ItemIndex(), ring=4)
    users.ring_items[:3] = [[4, 7, 4, 9], [2, 8, 8, 8], [5, 5, 6, 7]]
    users.ring_kinds[:3] = [[CLICK, HIDE, SKIP, HIDE], [REPORT, HIDE, HIDE, HIDE], [HIDE] * 4]
    users.pushed[:3] = [3, 1, 9]
    rows = np.array([1, 0, 2], np.int32)
    of_first = {(0, 2), (1, 4), (1, 7)}
    assert pairs(had(users, rows, repeat=False)) == of_first | {(2, 5), (2, 6), (2, 7)}
    assert pairs(had(users, rows, repeat=False, anonymous=np.array([False, False, True]))) == of_first
    assert pairs(had(users, rows[:2], repeat=True)) == {(0, 2), (1, 7)}


@given(
    st.lists(st.integers(-1, 5), max_size=30),
    st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 6)), max_size=8),
)
def test_items_of_blocked_authors(authors: list[int], blocked: list[tuple[int, int]]) -> None:
    catalogue = Catalogue(ItemIndex())
    catalogue.apply(["before"], [Entry("0", 0)])
    assert pairs(of_authors(np.array([[0, 0]]), catalogue)) == {
        (0, 1)
    }  # its order is made anew after the next entries
    names = [f"i{n}" for n in range(len(authors))]
    catalogue.apply(names, [Entry(str(own) if own >= 0 else None, 0) for own in authors])
    ids = dict(zip(range(7), catalogue.author_ids([str(n) for n in range(7)]).tolist(), strict=True)) | {
        -1: -1
    }
    given_ids = [(place, ids[author]) for place, author in blocked]
    found = of_authors(np.array(given_ids, np.int64).reshape(-1, 2), catalogue)
    own = {n + 2: author for n, author in enumerate(authors)} | {1: 0}
    wanted = {(place, item) for place, author in blocked for item, by in own.items() if by == author >= 0}
    assert pairs(found) == wanted


def test_age_counts_only_where_it_is_known() -> None:
    published = np.array([0, 1_000, 5_000, 9_000], np.int64)
    assert too_old(published, 10_000, 5_000).tolist() == [False, True, False, False]
    assert not too_old(published, 10_000, 0).any()


def test_the_mask_bars_pairs_and_columns_and_nothing_else() -> None:
    scores = np.zeros((3, 5), np.float32)
    mask(scores, np.array([1]), (np.array([[0, 2], [2, 4], [1, 9], [1, -1]]), np.empty((0, 2), np.int64)))
    barred = {(0, 1), (1, 1), (2, 1), (0, 2), (2, 4)}
    assert {(int(a), int(b)) for a, b in np.argwhere(np.isneginf(scores))} == barred


def test_wishes_of_a_part_of_the_batch() -> None:
    wishes = Wishes(np.array([[0, 9], [3, 8], [4, 7], [5, 6]]), np.array([[2, 1], [4, 0]]))
    part = wishes.part(3, 5)
    assert part.excluded.tolist() == [[0, 8], [1, 7]] and part.blocked.tolist() == [[1, 0]]
