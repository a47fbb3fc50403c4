"""A look at few items gives the very lists that a look at all of them gives: ties, filters and shares included. And a
list is the same, to the last bit, whoever else is in the batch."""

from dataclasses import fields, replace
from functools import cache

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.taste import actions
from models.taste.index import ItemIndex
from models.taste.items.catalogue import Catalogue
from models.taste.items.neighbours import ItemColumns
from models.taste.items.table import ItemTable
from models.taste.lists.filters import Wishes
from models.taste.lists.pipeline import lists
from models.taste.lists.rank import RankSettings
from models.taste.lists.reasons import Lists
from models.taste.lists.request import ListSettings, Requests
from models.taste.lists.scores import layer_scores
from models.taste.lists.sources import Weighted
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

    def lists(self, requests: Requests, k: int, how: ListSettings, every: bool = False) -> Lists:
        """`every`: all items are looked at, since a source speaks that says nothing."""
        further = [Weighted(Silent(), 1.0)] if every else []
        return lists(self.table, self.catalogue, self.users, requests, NOW_MS, k, how, further=further).lists


class Silent:
    """A source that knows nothing of anybody."""

    name = "silent"

    def scores(self, users: UserRows, rows: NDArray[np.int32], now_ms: int) -> NDArray[np.float32]:
        return np.zeros((len(rows), len(users.items)), np.float32)


world = cache(World)
hows = st.builds(
    RankSettings,
    taste=st.sampled_from([0.0, 0.02, 0.1, 1.0, 30.0]),
    popularity=st.sampled_from([0.0, 0.1]),
    counts=st.booleans(),
    repeat=st.booleans(),
)
cases = given(
    seed=st.integers(0, 5), draw=st.integers(0, 1000), k=st.sampled_from([1, 7, 20, 100, 1000]), how=hows
)


def asked(one: World, draw: int) -> Requests:
    """By some of the readers, some of them anonymous, without items at random."""
    rng = np.random.default_rng(draw)
    rows = rng.permutation(one.rows)[: rng.integers(1, READERS)]
    excluded = np.stack([rng.integers(0, len(rows), 100), rng.integers(0, ITEMS + 9, 100)], axis=1)
    return Requests(rows, rng.random(len(rows)), rng.random(len(rows)) < 0.2, Wishes(excluded))


def check_same(one: Lists, other: Lists) -> None:
    for column in fields(Lists):
        if column.name != "sources":
            np.testing.assert_array_equal(getattr(one, column.name), getattr(other, column.name), column.name)


@settings(max_examples=60, deadline=None)
@cases
def test_few_are_as_good_as_all(seed: int, draw: int, k: int, how: RankSettings) -> None:
    one = world(seed)
    requests, whole = asked(one, draw), ListSettings(rank=how)
    few, every = one.lists(requests, k, whole), one.lists(requests, k, whole, every=True)
    check_same(few, replace(every, layers=every.layers[..., :3]))


@settings(max_examples=60, deadline=None)
@cases
def test_it_is_the_best_of_all_scores(seed: int, draw: int, k: int, how: RankSettings) -> None:
    """By a plain sort; items may differ where scores are one to rounding."""
    one = world(seed)
    requests = replace(asked(one, draw), anonymous=None)
    found = one.lists(requests, k, ListSettings(rank=how))
    parts, listable = layer_scores(one.table, one.users, requests.rows, NOW_MS, how)
    scores = parts.sum(axis=0)
    scores[:, ~listable] = -np.inf
    for reader, row in enumerate(requests.rows.tolist()):
        ring = slice(0, int(one.users.pushed[row]))  # what lies beyond it is as long as the ring
        barred = actions.is_hiding(one.users.ring_kinds[row, ring]) if how.repeat else slice(None)
        scores[reader, one.users.ring_items[row, ring][barred]] = -np.inf
    hidden = one.users.hidden.pairs(requests.rows)[0]
    scores[hidden[:, 0], hidden[:, 1]] = -np.inf
    excluded = requests.wishes.excluded[requests.wishes.excluded[:, 1] < scores.shape[1]]
    scores[excluded[:, 0], excluded[:, 1]] = -np.inf
    best = np.sort(scores, axis=1)[:, ::-1][:, :k]
    held = np.pad(np.isfinite(best), ((0, 0), (0, k - best.shape[1])))
    np.testing.assert_array_equal(found.items >= 0, held)
    np.testing.assert_allclose(found.scores[held], best[held[:, : best.shape[1]]], rtol=2e-5, atol=1e-6)
    own = np.take_along_axis(scores, np.maximum(found.items, 0), 1)
    np.testing.assert_allclose(found.scores[held], own[held], rtol=2e-5, atol=1e-6)


@settings(max_examples=30, deadline=None)
@cases
def test_a_list_does_not_depend_on_the_batch(seed: int, draw: int, k: int, how: RankSettings) -> None:
    one = world(seed)
    requests, whole = asked(one, draw), ListSettings(rank=how)
    for every in (False, True):
        together = one.lists(requests, k, whole, every)
        for reader in range(len(requests.rows)):
            alone = one.lists(requests.part(reader, reader + 1), k, whole, every)
            check_same(alone, together.some(np.array([reader])))


def test_nothing_is_left_behind_for_the_next_reader() -> None:
    one = world(0)
    one.lists(asked(one, 1), 20, ListSettings())
    assert not one.table.sums.any() and not one.table.places.any()
