"""Working arrays that are kept between calls: fresh pages for each batch of lists cost more than the ranking itself.
NumPy alone."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Scratch:
    """Arrays by name. What one call took is valid until the next call that takes the same name."""

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """An array of undefined content."""
        cells = math.prod(shape)
        return self._of(name, cells, dtype, None)[:cells].reshape(shape)

    def filled(self, name: str, cells: int, dtype: Any, value: float) -> NDArray[Any]:
        """(cells,) of `value`, which whoever takes it puts back before it is taken again."""
        return self._of(name, cells, dtype, value)[:cells]

    def take(
        self, name: str, source: NDArray[Any], rows: NDArray[np.integer], shape: tuple[int, ...]
    ) -> NDArray[Any]:
        """`source[rows]`, of that shape."""
        found = self.array(name, shape, source.dtype)
        source.take(rows, 0, out=found, mode="clip")  # any other mode would go through a buffer
        return found

    def _of(self, name: str, cells: int, dtype: Any, value: float | None) -> NDArray[Any]:
        found = self._arrays.get(name)
        if found is None or len(found) < cells:
            found = np.empty(cells, dtype) if value is None else np.full(cells, value, dtype)
            self._arrays[name] = found
        return found
