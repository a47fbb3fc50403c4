"""Columns that grow in place keep their rows, and views of them stay what they were."""

import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.taste import columns


@pytest.mark.parametrize("rows", [10, 50_000])
@pytest.mark.parametrize("shape", [(), (3,), (2, 5)])
def test_rows_are_kept_and_new_ones_are_zero(rows: int, shape: tuple[int, ...]) -> None:
    held: dict[str, Any] = {"c": columns.zeros((rows, *shape), np.int64)}
    held["c"][:] = np.arange(held["c"].size).reshape(held["c"].shape) + 1
    for more in (rows + 1, 3 * rows, 40 * rows):
        before = held["c"].copy()
        columns.grow(held, "c", more)
        column = held["c"]
        assert column.shape == (more, *shape) and column.dtype == np.int64
        assert (column[: len(before)] == before).all() and not column[len(before) :].any()
        column[len(before) :] = 7  # writable to its end


def test_a_view_that_lives_stays_valid_where_the_memory_has_to_be_lengthened() -> None:
    held: dict[str, Any] = {"c": columns.zeros((100_000, 2), np.float32)}
    held["c"][:] = 5
    view = held["c"][10:20]
    beyond = columns.RESERVE_BYTES // 8 + 1
    columns.grow(held, "c", beyond)
    held["c"][:] = 6
    assert (view == 5).all()  # its memory could not be lengthened under it
    columns.grow(held, "c", 2 * beyond)
    assert (held["c"][:beyond] == 6).all() and not held["c"][beyond:].any() and (view == 5).all()


@pytest.mark.parametrize("rows", [2_000_000, columns.RESERVE_BYTES])
def test_a_large_column_does_not_move_its_bytes(rows: int) -> None:
    held: dict[str, Any] = {"c": columns.zeros((1_000_000,), np.int64)}
    owner = held["c"].base.base
    memory = owner.obj
    del owner
    columns.grow(held, "c", rows)
    assert held["c"].base.base.obj is memory and len(memory) >= 8 * rows


def test_where_nothing_can_be_reserved_columns_grow_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "AHEAD", 1 << 40)  # more than any system has addresses for
    held: dict[str, Any] = {"c": columns.zeros((100_000,), np.int64)}
    held["c"][:] = 5
    columns.grow(held, "c", 200_000)
    assert (held["c"][:100_000] == 5).all() and not held["c"][100_000:].any()


def test_reserved_memory_is_not_used_before_it_is_touched() -> None:
    def resident_bytes() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    before = resident_bytes()
    column = columns.zeros((1 << 20,), np.int64)  # 8 MB, of which a tenth is touched
    column[: len(column) // 10] = 1
    assert resident_bytes() - before < 6 << 20
