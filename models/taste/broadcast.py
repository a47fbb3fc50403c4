"""Operations of a matrix with one number a row or one a column, and by row, without a detour. NumPy alone.

NumPy sends operands that it has to repeat through a buffer unless a row is longer than that (8,192 numbers): to compare
128 rows of 4,000 with a number each takes 97 us so and 35 us with a short buffer, on one core.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_BUFFER = 1024  # numbers; rows that are longer go past it


def apart(operation: np.ufunc, matrix: NDArray[Any], repeated: NDArray[Any], out: NDArray[Any]) -> None:
    """`operation(matrix, repeated, out=out)`. None of them may need a cast, which a short buffer makes slow."""
    if len(matrix) == 1:
        operation(matrix, repeated, out=out)
        return
    before = np.setbufsize(_BUFFER)  # of this thread and context alone
    try:
        operation(matrix, repeated, out=out)
    finally:
        np.setbufsize(before)


def along(matrix: NDArray[Any], columns: NDArray[np.int64]) -> NDArray[Any]:
    """`np.take_along_axis(matrix, columns, 1)` for columns (B, N) of a matrix (B, M): a third of its cost for a few
    rows."""
    found: NDArray[Any] = matrix.reshape(-1).take(columns + np.arange(len(matrix))[:, None] * matrix.shape[1])
    return found
