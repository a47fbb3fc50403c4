"""Columns that grow in place keep their rows, and views of them stay what they were."""

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


def test_a_view_that_lives_stays_valid() -> None:
    held: dict[str, Any] = {"c": columns.zeros((100_000, 2), np.float32)}
    held["c"][:] = 5
    view = held["c"][10:20]
    columns.grow(held, "c", 1_000_000)
    held["c"][:] = 6
    assert (view == 5).all()
    columns.grow(held, "c", 2_000_000)
    assert (held["c"][:1_000_000] == 6).all() and (view == 5).all()


def test_a_large_column_does_not_move_its_bytes() -> None:
    held: dict[str, Any] = {"c": columns.zeros((1_000_000,), np.int64)}
    owner = held["c"].base.base
    memory = owner.obj
    del owner
    columns.grow(held, "c", 2_000_000)
    assert held["c"].base.base.obj is memory and len(memory) == 16_000_000
