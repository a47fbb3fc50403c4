"""What is taken from rows is what NumPy takes, whatever lies between them."""

import numpy as np
import pytest

from models.taste.lists.draft import along


@pytest.mark.parametrize(("rows", "width", "wanted"), [(1, 1, 3), (5, 7, 4), (3, 9, 9), (0, 4, 2)])
def test_along_takes_from_each_row_its_columns(rows: int, width: int, wanted: int) -> None:
    random = np.random.default_rng(rows)
    whole = random.integers(0, 1000, (rows, 2 * width)).astype(np.int32)
    columns = random.integers(0, width, (rows, wanted))
    for matrix in (whole[:, :width], np.ascontiguousarray(whole[:, :width]), whole[:, ::2]):
        found = along(matrix, columns)
        assert found.dtype == matrix.dtype
        np.testing.assert_array_equal(found, np.take_along_axis(matrix, columns, 1))
