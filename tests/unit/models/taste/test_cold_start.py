"""Items before their first click: content vectors travel in item-table rows and make lists; clicks take over."""

import numpy as np

from models.taste import actions
from models.taste.index import ItemIndex
from models.taste.items.catalogue import Catalogue, Entry
from models.taste.items.contents import pack
from models.taste.items.neighbours import ItemColumns
from models.taste.items.table import ItemTable
from models.taste.lists.pipeline import lists
from models.taste.lists.rank import RankSettings
from models.taste.lists.request import ListSettings, Requests
from models.taste.readers.transitions import transitions
from models.taste.readers.users import UserRows

NOW_MS = 1_700_000_000_000
NAMES = [f"i{n}" for n in range(40)]


def topic_vectors(seed: int = 1) -> np.ndarray:  # type: ignore[type-arg]
    """(40, 24): item n is about topic n % 4."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(4, 24))
    made: np.ndarray = centres[np.arange(40) % 4] + 0.5 * rng.normal(size=(40, 24))  # type: ignore[type-arg]
    return made.astype(np.float32)


class World:
    """Readers, the item side and a worker's table; nobody has clicked anything."""

    def __init__(self) -> None:
        self.index = ItemIndex()
        self.users, self.table = UserRows(self.index), ItemTable(self.index)
        self.columns, self.offset = ItemColumns(self.index, sources=1), 0

    def describe(self, names: list[str], vectors: np.ndarray) -> None:  # type: ignore[type-arg]
        offsets = np.arange(self.offset, self.offset + len(names))
        self.offset += len(names)
        changed = self.columns.describe(names, [pack(v, "r1") for v in vectors], offsets)
        self.columns.pass_by(names, offsets)
        self.publish(changed)

    def click(self, user: str, name: str) -> None:
        items, kinds = self.index.lookup([name]), actions.codes_of(["click"])
        at_ms, offset = np.array([NOW_MS], np.int64), np.array([self.offset], np.int64)
        weights = actions.weights_of(kinds, [0.0])
        folded = self.users.fold([user], items, kinds, weights, at_ms, offset, 10)
        told = transitions(folded, items, kinds, weights, at_ms, offset, 0)
        self.publish(self.columns.fold(told, offset))
        self.offset += 1

    def publish(self, rows: np.ndarray) -> None:  # type: ignore[type-arg]
        self.table.apply(self.columns.names(rows), list(self.columns.encode(rows)))

    def listed(self, user: str, k: int = 10) -> list[str]:
        how = ListSettings(rank=RankSettings(popularity=0.0))
        requests = Requests(self.users.rows_of([user]), np.zeros(1))
        found = lists(self.table, Catalogue(self.index), self.users, requests, NOW_MS, k, how).lists
        return [self.index.names[i] or "" for i in found.items[0].tolist() if i >= 0]


def test_items_that_nobody_clicked_are_listed_by_what_they_are_about() -> None:
    world = World()
    world.describe(NAMES, topic_vectors())
    world.click("ada", "i0")
    world.click("ada", "i4")
    world.click("bob", "i3")
    world.click("bob", "i7")
    for reader, topic in (("ada", 0), ("bob", 3)):
        topics = [int(name[1:]) % 4 for name in world.listed(reader, 6)]
        assert topics[0] == topic and topics.count(topic) >= 5  # of a quarter by chance


def test_an_upload_is_listed_once_its_vector_is_there_and_its_clicks_take_over() -> None:
    world = World()
    vectors = topic_vectors()
    world.describe(NAMES[:-1], vectors[:-1])
    world.click("ada", "i3")
    assert "i39" not in world.listed("ada", 40)
    world.describe(["i39"], vectors[39:])
    assert "i39" in world.listed("ada")  # of ada's topic
    before = world.table.sketches[world.index.lookup(["i39"])[0]].copy()
    for n in range(30):
        world.click(f"u{n}", "i1")
        world.click(f"u{n}", "i39")
    after = world.table.sketches[world.index.lookup(["i39"])[0]]
    code = world.index.codes[world.index.lookup(["i1"])[0]] / 8
    assert after @ code > 0.9 > 0.3 > before @ code  # known by what comes before it now


def test_rows_with_content_survive_a_restart() -> None:
    world = World()
    world.describe(["a", "b"], topic_vectors()[:2])
    world.click("ada", "a")
    rows = np.arange(2)
    values = list(world.columns.encode(rows))
    again = ItemColumns(world.index, sources=1)
    again.load(values)
    assert list(again.encode(rows)) == values and len(again.contents) == 2


def test_who_brought_an_item_in_counts_until_the_catalogue_says_it() -> None:
    world = World()
    world.publish(world.columns.describe(["a"], [pack(topic_vectors()[0], "r1", "ada")], np.array([0])))
    (a,) = world.index.lookup(["a"]).tolist()
    assert world.table.contents.author_of(a) == "ada" and world.table.contents.author_of(a + 1) is None
    catalogue = Catalogue(world.index)
    catalogue.uploaded(a, "ada")
    assert catalogue.author[a] == catalogue.author_ids(["ada"])[0] and catalogue.empty
    catalogue.apply(["a"], [Entry("bob", 0)])
    catalogue.uploaded(a, "ada")
    assert catalogue.author[a] == catalogue.author_ids(["bob"])[0]


def test_a_vector_read_twice_or_late_changes_nothing() -> None:
    world = World()
    first, second = (pack(v, "r1") for v in topic_vectors()[:2])
    columns = world.columns
    assert columns.describe(["a"], [first], np.array([5])).tolist() == [0]
    columns.pass_by(["a"], np.array([5]))
    assert not columns.describe(["a"], [second], np.array([5])).size
    assert not columns.describe(["a"], [second], np.array([3])).size
    assert columns.contents[0] == first
    assert columns.describe(["a"], [second], np.array([6])).tolist() == [0]
    assert columns.contents[0] == second


def test_items_beyond_the_bound_have_no_row_and_are_never_listed() -> None:
    small = ItemIndex(max_items=3)
    table, columns = ItemTable(small), ItemColumns(ItemIndex(), sources=1)
    names = [f"i{n}" for n in range(8)]
    rows = columns.describe(names, [pack(v, "r1") for v in topic_vectors()[:8]], np.arange(8))
    table.apply(names, list(columns.encode(rows)))
    assert len(table) == 3 and not table.present[0] and len(table.contents) == 3
    table.apply(names, [None] * 8)
    assert len(table) == 0 and len(table.contents) == 0
