"""Own items first: the latest leads, what was hidden does not come back, shares stay exact."""

import numpy as np

from models.taste import actions
from models.taste.index import ItemIndex
from models.taste.items.catalogue import Catalogue
from models.taste.items.neighbours import ItemColumns
from models.taste.items.table import ItemTable
from models.taste.lists.explore import draws
from models.taste.lists.pipeline import lists
from models.taste.lists.rank import RankSettings
from models.taste.lists.reasons import Lists
from models.taste.lists.request import ListSettings, Requests
from models.taste.readers.transitions import transitions
from models.taste.readers.users import UserRows

NOW_MS = 1_700_000_000_000
CLICK, HIDE = actions.CODES["click"], actions.CODES["hide"]


def listed(own_first: bool) -> tuple[Lists, list[str | None]]:
    """Of ada, who clicked a, b, c, b and hid c, among other readers' clicks on a to h."""
    index = ItemIndex()
    users, columns, table = UserRows(index), ItemColumns(index, sources=1), ItemTable(index)
    others = [(f"u{n % 5}", "abcdefgh"[(n * 3 + n // 5) % 8], CLICK) for n in range(80)]
    hers = [("ada", item, kind) for item, kind in zip("abcbc", [CLICK] * 4 + [HIDE], strict=True)]
    events = others + hers
    items = index.lookup([item for _, item, _ in events])
    kinds = np.array([kind for _, _, kind in events], np.int8)
    weights, n = np.ones(len(events), np.float32), np.arange(len(events))
    folded = users.fold([user for user, _, _ in events], items, kinds, weights, NOW_MS + n, n, 10)
    moved = transitions(folded, items, kinds, weights, NOW_MS + n, n, 0)
    changed = columns.fold(moved, moved.source_offsets)
    table.apply(columns.names(changed), list(columns.encode(changed)))
    rows = users.rows_of(["ada"])
    requests = Requests(rows, draws(np.zeros(1, np.int32), np.zeros(1, np.int64)))
    how = ListSettings(rank=RankSettings(repeat=True), own_first=own_first)
    made = lists(table, Catalogue(index), users, requests, NOW_MS + 100, 6, how).lists
    return made, [index.names[i] for i in made.items[0].tolist() if i > 0]


def test_the_latest_own_item_leads_and_what_was_hidden_stays_out() -> None:
    found, names = listed(own_first=True)
    assert names[:2] == ["b", "a"] and "c" not in names and len(names) >= 5
    own = found.layers[0, :, 3]
    assert found.sources == ("own",) and (own[:2] > 0).all() and not own[2:].any()
    np.testing.assert_allclose(found.layers[0].sum(axis=1), found.scores[0], rtol=1e-5)


def test_the_rest_keeps_its_order() -> None:
    _, first = listed(own_first=True)
    _, plain = listed(own_first=False)
    assert [name for name in plain if name not in "ab"] == first[2:]
