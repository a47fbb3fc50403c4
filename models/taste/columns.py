"""Columns that grow in place: large ones lie in private anonymous memory of which more is reserved than used.

Growing by a quarter copies a column five times over on its way to a size. Reserved memory costs nothing until it is
first touched, and is zero then; it never moves, so that the system can back it with pages of 2 MiB (moved pages fall
apart into small ones: 229 MB took 0.03 s to touch in large pages, 0.10 s in small ones). What outgrows its reserve is
lengthened by moving pages instead of bytes. NumPy and the standard library alone; where memory can be neither reserved
nor lengthened (no mremap, or somebody holds a view) it is copied.
"""

import contextlib
import mmap
import sys
from collections.abc import MutableMapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGE_BYTES = 1 << 18  # below, a copy is cheap
RESERVE_BYTES = 64 << 20  # at least, for a large column
AHEAD = 4  # times the size that was asked for
NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


def zeros(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Zero rows; the memory of a large column can grow in place."""
    count = int(np.prod(shape, dtype=np.int64))
    size = count * np.dtype(dtype).itemsize
    if size < LARGE_BYTES or not hasattr(mmap, "MAP_ANONYMOUS"):
        return np.zeros(shape, dtype)
    return _view(_reserved(size), shape, dtype)  # its memoryview forbids a resize while it lives


def grow(columns: MutableMapping[str, Any], name: str, rows: int) -> None:
    """Lengthen the column of that name with zero rows. Views of it stay valid, and may share its memory or not.

    The mapping is given, not the column: a reference in the caller's frame would forbid growing in place.
    """
    column: NDArray[Any] = columns.pop(name)
    old, shape, dtype = column.shape, (rows, *column.shape[1:]), column.dtype
    size, memory = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize, _memory_of(column)
    if memory is not None and size <= len(memory):
        columns[name] = _view(memory, shape, dtype)
        return
    if memory is not None:
        del column
        if _lengthened(memory, size):
            columns[name] = _view(memory, shape, dtype)
            return
        column = _view(memory, old, dtype)
    new = zeros(shape, dtype)
    new[: len(column)] = column
    columns[name] = new


def _view(memory: mmap.mmap, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    return np.frombuffer(memory, dtype, int(np.prod(shape, dtype=np.int64))).reshape(shape)


def _reserved(size: int) -> mmap.mmap:
    """Memory for that many bytes with room to grow, or, where the system counts what is not used, without."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    try:
        memory = mmap.mmap(-1, max(RESERVE_BYTES, AHEAD * size), flags=flags | NORESERVE)
    except (OSError, OverflowError):
        memory = mmap.mmap(-1, size, flags=flags)
    _in_huge_pages(memory)
    return memory


def _lengthened(memory: mmap.mmap, size: int) -> bool:
    for wanted in (AHEAD * size, size):
        try:
            memory.resize(wanted)
        except (
            BufferError,
            OSError,
            OverflowError,
            SystemError,
            ValueError,
        ):  # a view lives; no room; no mremap here
            continue
        _in_huge_pages(memory)
        return True
    return False


def _in_huge_pages(memory: mmap.mmap) -> None:
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE)


def _memory_of(column: NDArray[Any]) -> mmap.mmap | None:
    base: Any = column
    while isinstance(base, np.ndarray):
        base = base.base
    owner = base.obj if isinstance(base, memoryview) else None
    return owner if isinstance(owner, mmap.mmap) else None
