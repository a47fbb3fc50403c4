"""A look at few items gives the very lists that a look at all of them gives: ties, filters and shares included."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.taste import actions
from models.taste.index import ItemIndex
from models.taste.items.catalogue import Catalogue
from models.taste.items.neighbours import ItemColumns
from models.taste.items.table import ItemTable
from models.taste.lists import choose, counts
from models.taste.lists.filters import Wishes
from models.taste.lists.pipeline import lists
from models.taste.lists.rank import RankSettings
from models.taste.lists.reasons import Lists
from models.taste.lists.request import ListSettings, Requests
from models.taste.readers.transitions import transitions
from models.taste.readers.users import UserRows

START_MS = 1_700_000_000_000
NOW_MS = START_MS + 3_000_000
READERS, ITEMS = 60, 900


class World:
    """Readers of whom some have a long history and some none, over more items than any of them reaches."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.index = ItemIndex()
        self.users, self.table = UserRows(self.index, ring=32), ItemTable(self.index, followers=40)
        self.catalogue = Catalogue(self.index)
        columns, n = ItemColumns(self.index, 1), 3_000
        spread = [ITEMS, 60][seed % 2]  # many items with few counts each, or many equal ones
        items = self.index.lookup([f"i{int(i)}" for i in (spread * rng.random(n) ** 2).tolist()])
        self.index.lookup([f"i{i}" for i in range(ITEMS)])
        kinds = actions.codes_of(rng.choice(("click", "click", "like", "hide"), n).tolist())
        weights, at_ms = (
            actions.weights_of(kinds, np.zeros(n)),
            START_MS + np.sort(rng.integers(0, 3_000_000, n)),
        )
        readers = [f"u{int(u)}" for u in (READERS * rng.random(n) ** 3).tolist()]
        folded = self.users.fold(readers, items, kinds, weights, at_ms, np.arange(n), 10)
        found = transitions(folded, items, kinds, weights, at_ms, np.arange(n), 0)
        changed = columns.fold(found, np.arange(len(found.items)))
        self.table.apply(columns.names(changed), list(columns.encode(changed, 100)))
        self.rows = self.users.rows_of([f"u{u}" for u in range(READERS)])

    def lists(
        self, few: bool, requests: Requests, k: int, how: ListSettings, together: int = READERS
    ) -> Lists:
        """`together` readers of whom the parts are added up in one group."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(choose, "_FEW", 0 if few else 1 << 30)
            patch.setattr(counts, "_GROUP", together * len(self.index))
            made = lists(self.table, self.catalogue, self.users, requests, NOW_MS, k, how)
        return made.lists


world = cache(World)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 5),
    draw=st.integers(0, 1000),
    k=st.sampled_from([1, 7, 20, 100]),
    how=st.builds(
        RankSettings,
        taste=st.sampled_from([0.0, 0.02, 0.1, 1.0]),
        popularity=st.sampled_from([0.0, 0.1]),
        counts=st.booleans(),
        repeat=st.booleans(),
    ),
    together=st.tuples(*2 * [st.sampled_from([0, 1, 7, READERS])]),
)
def test_few_are_as_good_as_all(
    seed: int, draw: int, k: int, how: RankSettings, together: tuple[int, int]
) -> None:
    one, rng = world(seed), np.random.default_rng(draw)
    rows = rng.permutation(one.rows)[: rng.integers(1, READERS)]
    places = np.arange(len(rows))
    excluded = np.stack([rng.choice(places, 100), rng.integers(0, ITEMS + 9, 100)], axis=1)
    requests = Requests(rows, rng.random(len(rows)), rng.random(len(rows)) < 0.2, Wishes(excluded))
    few, every = (
        one.lists(which, requests, k, ListSettings(rank=how), group)
        for which, group in zip((True, False), together, strict=True)
    )
    np.testing.assert_allclose(few.scores, every.scores, rtol=1e-5, atol=1e-6)
    if (
        not how.taste
    ):  # no sum of many numbers, whose order may differ: to the last bit, and ties in their order
        np.testing.assert_array_equal(few.items, every.items)
        np.testing.assert_array_equal(few.scores, every.scores)
        np.testing.assert_array_equal(few.by_past, every.by_past)
    different = few.items != every.items  # only where scores are one to rounding
    np.testing.assert_allclose(
        few.layers.sum(axis=2)[different], every.scores[different], rtol=1e-5, atol=1e-6
    )


def test_it_is_proved_for_nearly_all_readers_and_never_for_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What makes it fast: all items are looked at for few readers."""
    looked: list[int] = []
    whole = choose._of_all

    def counted(*args: object) -> choose.Best:
        looked.append(len(args[2]))  # type: ignore[arg-type]
        return whole(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(choose, "_of_all", counted)
    one = world(0)
    known = one.rows[one.users.pushed[one.rows] >= 10]
    requests = Requests(known, np.zeros(len(known)))
    one.lists(True, requests, 10, ListSettings(rank=RankSettings(taste=0.05)))
    assert len(known) > 20 and sum(looked) <= len(known) // 5
    looked.clear()
    nobody = one.users.rows_of(["nobody"])
    made = one.lists(True, Requests(nobody, np.zeros(1)), 10, ListSettings())
    assert (made.items >= 0).all()
    assert (np.diff(made.scores[0]) <= 0).all()
