"""Item-table rows of every version that was ever written are read, or refused by name; never misread."""

import math
import struct
from pathlib import Path

import numpy as np
import pytest

from models.errors import BadInput
from models.taste.index import ItemIndex
from models.taste.items.itemrows import VERSION
from models.taste.items.neighbours import ItemColumns
from models.taste.items.table import ItemTable

GOLDEN = Path(__file__).parents[3] / "golden"
NAMES = ["a", "b", "c", "größe"]
# Six events a day apart, of two partitions, at weights 1, 1, 1, 0.5, an impression and 3; half-life 30 days.
POPULARITY = [7.60405815, 1.78179705, 1.82344377, 0.93303269]
IMPRESSIONS = [0, 1.90968204, 0, 0]


def written(version: int) -> list[bytes]:
    left, rows = (GOLDEN / f"taste-item-v{version}.bin").read_bytes(), []
    while left:
        (size,) = struct.unpack_from("<I", left)
        rows.append(left[4 : 4 + size])
        left = left[4 + size :]
    return rows


@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_a_golden_file_is_read(version: int) -> None:
    columns = ItemColumns(ItemIndex(), sources=2)
    assert columns.load(written(version)) == []
    rows = columns.rows_of(NAMES)
    assert columns.popularity[rows] == pytest.approx(POPULARITY, rel=1e-6)
    assert columns.impressions[rows] == pytest.approx(IMPRESSIONS, rel=1e-6)
    assert columns.fence[rows].tolist() == [5, 4, 2, 3]
    assert columns.marks[rows].tolist() == [[10, 15], [14, 11], [12, -1], [-1, 13]]
    keys, weights = columns.predecessors.heaviest(rows[2:3], 2)
    assert [columns.items.hashes[key] for key in keys[0]] == [
        columns.items.hashes[item] for item in columns.items.lookup(["b", "a"])
    ]
    assert weights[0, 1] == pytest.approx(0.9 * weights[0, 0], rel=1e-6)


def test_what_is_written_now_is_the_newest_golden_file() -> None:
    columns = ItemColumns(ItemIndex(), sources=2)
    columns.load(written(VERSION))
    assert list(columns.encode(np.arange(4))) == written(VERSION)


@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_every_cut_off_row_and_one_of_tomorrow_is_refused(version: int) -> None:
    columns = ItemColumns(ItemIndex(), sources=2)
    whole = written(version)[2]
    for size in range(len(whole)):
        with pytest.raises(BadInput):
            columns.load([whole[:size]])
    with pytest.raises(BadInput, match=f"version {VERSION}"):
        columns.load([bytes([VERSION + 1]) + whole[1:]])


@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_rows_of_another_half_life_are_refused(version: int) -> None:
    for half_life_s in (29 * 86_400.0, math.inf):
        columns = ItemColumns(ItemIndex(), sources=2, half_life_s=half_life_s)
        with pytest.raises(BadInput, match="half-life of 2"):
            columns.load(written(version))
        with pytest.raises(BadInput, match="half-life of 2"):
            ItemTable(ItemIndex(), half_life_s).apply(["c"], [written(version)[2]])
        assert len(columns) == 0


def test_rows_of_an_infinite_half_life_are_read_again() -> None:
    columns, again = (ItemColumns(ItemIndex(), sources=2, half_life_s=math.inf) for _ in range(2))
    value = columns.encode(columns.rows_of(["x"]))
    again.load(value)
    assert again.encode(again.rows_of(["x"])) == value


def test_rows_of_another_number_of_sources_are_refused() -> None:
    with pytest.raises(BadInput, match="another number of clicks partitions than 3"):
        ItemColumns(ItemIndex(), sources=3).load(written(VERSION))
