"""Bars: who keeps an item out of lists, beside its content vector, in any order, read back from its row."""

import itertools

import numpy as np
import pytest

from models.errors import BadInput
from models.taste.index import ItemIndex
from models.taste.items import bars
from models.taste.items.catalogue import Catalogue, Entry
from models.taste.items.contents import pack
from models.taste.items.neighbours import ItemColumns
from models.taste.items.table import ItemTable
from models.taste.lists.barred import barred_items
from models.taste.lists.request import ListSettings

VECTOR = pack(np.array([1.0, 2.0, 3.0], np.float32), "r1", "ada")
PICTURE, TEXT = "open-nsfw", "ocr>safety-rules"


def test_bars_and_vectors_do_not_touch_each_other_whatever_their_order() -> None:
    records = [VECTOR, bars.told(PICTURE, True), bars.told(TEXT, True), bars.told(TEXT, False)]
    for order in itertools.permutations(records):
        value = b""
        for record in order:
            value = bars.kept(value, record)
        steps, vector = bars.split(value)
        assert vector == VECTOR
        assert bars.told(PICTURE, True)[1:] in steps
        assert (len(steps) == 2) == (order.index(records[3]) < order.index(records[2]))
        value = bars.kept(bars.kept(value, bars.told(PICTURE, False)), bars.told(TEXT, False))
        assert value == VECTOR


def test_bars_are_bounded_and_damage_is_refused() -> None:
    value = VECTOR
    for step in range(50):
        value = bars.kept(value, bars.told(str(step), True))
    assert len(bars.split(value)[0]) == bars.MOST and len(value) == bars.LARGEST_BYTES + len(VECTOR)
    for damaged in (b"\x02", b"\x02\x00", b"\x02\x02abcd", b"\x02\xff" + bytes(200)):
        with pytest.raises(BadInput):
            bars.split(damaged)
    with pytest.raises(BadInput):
        bars.kept(b"", bars.BAR + b"ab")


def rows(columns: ItemColumns, names: list[str]) -> list[bytes | None]:
    return list(columns.encode(columns.rows_of(names)))


def test_a_barred_item_is_withheld_and_a_lift_alone_makes_no_item() -> None:
    items = ItemIndex()
    columns, table = ItemColumns(items, sources=1), ItemTable(items)

    def describe(offset: int, *told: tuple[str, bytes]) -> int:
        names, at = [name for name, _ in told], np.arange(offset, offset + len(told))
        changed = len(columns.describe(names, [value for _, value in told], at))
        columns.pass_by(names, at)
        return changed

    assert describe(0, ("never", bars.told(TEXT, False))) == 0
    assert len(columns) == 0
    assert describe(1, ("a", VECTOR), ("b", bars.told(TEXT, True)), ("b", VECTOR)) == 2
    assert describe(4, ("a", bars.told(TEXT, False))) == 0  # nothing changes, so nothing is published
    table.apply(["a", "b"], rows(columns, ["a", "b"]))
    a, b = items.find(["a", "b"]).tolist()
    assert (table.withheld[a], table.withheld[b]) == (False, True)
    assert len(table.contents) == 2
    how, catalogue = ListSettings(), Catalogue(items)
    barred = barred_items(table, catalogue, 0, how)
    assert barred[b] and not barred[a]
    catalogue.apply(["a", "b"], [Entry(None, 0), Entry(None, 0)])
    barred = barred_items(table, catalogue, 0, how)
    assert barred[b] and not barred[a]  # the catalogue's word does not lift a bar
    # a worker that takes over reads it back; a record read twice changes nothing
    other = ItemColumns(items, sources=1)
    other.load([value for value in rows(columns, ["a", "b"]) if value])
    assert not len(other.describe(["b"], [bars.told(TEXT, False)], np.array([2])))
    assert (
        other.describe(["b"], [bars.told(TEXT, False)], np.array([9])).tolist()
        == other.rows_of(["b"]).tolist()
    )
    other.pass_by(["b"], np.array([9]))
    table.apply(["b"], rows(other, ["b"]))
    assert not table.withheld[b] and table.contents.author_of(b) == "ada"
    table.apply(["b"], [None])
    assert not table.withheld[b]
