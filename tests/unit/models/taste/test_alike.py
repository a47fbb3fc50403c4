"""Content as a source: against a plain loop, explained by its name, and of no say where there is no content."""

import numpy as np

from models.taste import actions
from models.taste.index import ItemIndex
from models.taste.items.catalogue import Catalogue
from models.taste.items.contents import Contents, pack
from models.taste.items.table import ItemTable
from models.taste.lists.alike import ContentSource
from models.taste.lists.pipeline import lists
from models.taste.lists.request import ListSettings, Requests
from models.taste.lists.sources import Weighted
from models.taste.readers.users import UserRows

NOW_MS = 1_700_000_000_000


def readers(index: ItemIndex, seed: int = 2) -> UserRows:
    rng = np.random.default_rng(seed)
    users, n = UserRows(index), 200
    kinds = actions.codes_of(
        rng.choice(["click", "like", "hide", "skip"], n, p=[0.5, 0.2, 0.1, 0.2]).tolist()
    )
    items = index.lookup([f"i{i}" for i in rng.integers(0, 30, n)])
    weights = actions.weights_of(kinds, np.zeros(n))
    users.fold(
        [f"u{u}" for u in rng.integers(0, 9, n)], items, kinds, weights, np.full(n, NOW_MS), np.arange(n)
    )
    return users


def test_scores_are_those_of_a_plain_loop() -> None:
    index = ItemIndex()
    names = index.lookup([f"i{n}" for n in range(30)]).tolist()
    contents, rng = Contents(keep=4), np.random.default_rng(1)
    vectors = rng.normal(size=(30, 3)).astype(np.float32)
    contents.describe(names[:25], [pack(v, "r") for v in vectors[:25]])
    users = readers(index)
    rows = users.rows_of([f"u{n}" for n in range(9)])
    found = ContentSource(contents, window=6, order_decay=0.5).scores(users, rows, NOW_MS)
    past, kinds, _ = users.recent(rows, 6)
    for place in range(9):
        wanted, whole = np.zeros(len(index)), 0.0
        for nth, (item, kind) in enumerate(zip(past[place].tolist(), kinds[place], strict=True)):
            if item <= 0 or actions.KINDS[kind] not in ("click", "like"):
                continue
            whole += 0.5**nth
            for like, cosine in zip(contents.likes.keys[item], contents.likes.weights[item], strict=True):
                if like >= 0:
                    wanted[like] += 0.5**nth * cosine
        np.testing.assert_allclose(found[place], wanted / max(whole, 1e-9), atol=1e-6)
        assert found[place].max() <= 1


def test_where_nothing_is_known_it_says_nothing() -> None:
    index = ItemIndex()
    users = readers(index)
    found = ContentSource(Contents()).scores(users, users.rows_of(["u0", "nobody yet"]), NOW_MS)
    assert found.shape == (2, len(index)) and not found.any()


def test_an_item_without_a_click_is_listed_and_says_that_it_is_for_its_content() -> None:
    index = ItemIndex()
    users, table, catalogue = readers(index), ItemTable(index), Catalogue(index)
    (mine,) = users.recent(users.rows_of(["u0"]), 1)[0][0].tolist()
    (fresh,) = index.lookup(["fresh"]).tolist()
    table.cover()
    table.contents.describe([mine, fresh], [pack(np.array([1, 2], np.float32), "r")] * 2)
    table.present[fresh] = True
    further = [Weighted(ContentSource(table.contents), 0.2)]
    requests = Requests(users.rows_of(["u0"]), np.zeros(1))
    made = lists(table, catalogue, users, requests, NOW_MS, 5, ListSettings(), further=further).lists
    assert made.items[0, 0] == fresh and made.sources == ("content",)
    assert made.layers[0, 0, 3] > 0.05
    np.testing.assert_allclose(made.layers[0, 0].sum(), made.scores[0, 0], rtol=1e-6)
