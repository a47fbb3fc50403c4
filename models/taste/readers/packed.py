"""Readers' states as bytes, by machine code; the layout is that of `models.taste.readers.layout`. The sums are copied
as they lie: processors are little-endian."""

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled, part

I64 = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Readers = tuple[I64, I64, I64, I64, I64, Bytes]
"""Columns of `Rows`: fence, newest_at_ms, accepted, recent_ids, refs, and the bytes of bank (U, 4 * H * (D + 2))."""

Rings = tuple[I64, NDArray[np.int32], NDArray[np.int8], I64, NDArray[np.uint16]]
"""Columns of `Rows`: pushed, ring_items, ring_kinds, ring_at_ms, ring_sizes."""

_READERS = "Tuple((int64[::1], int64[::1], int64[::1], int64[:, ::1], int64[:, ::1], uint8[:, ::1]))"
_RINGS = "Tuple((int64[::1], int32[:, ::1], int8[:, ::1], int64[:, ::1], uint16[:, ::1]))"


@compiled(f"void(int64[::1], int64, int64, int64[::1], {_READERS}, {_RINGS}, uint8[::1], int64[::1])")
def pack(
    rows: I64,
    version: int,
    settings: int,
    hashes: I64,
    readers: Readers,
    rings: Rings,
    out: Bytes,
    ends: I64,
) -> None:
    """States of rows (B,), nothing hidden, one after another into `out`; `ends` (B,) says where each ends. `hashes`
    (I,) of items."""
    fence, newest_at_ms, accepted, recent_ids, refs, bank = readers
    pushed, items, kinds, at_ms, sizes = rings
    kept, ring, at = recent_ids.shape[1], items.shape[1], 0
    for nth, row in enumerate(rows):
        at = _put(out, at, version, 1)
        at = _put(out, at, settings, 4)
        at = _put(out, at, fence[row], 8)
        at = _put(out, at, newest_at_ms[row], 8)
        for h in range(refs.shape[1]):
            at = _put(out, at, refs[row, h], 8)
        filled = min(pushed[row], ring)
        at = _put(out, at, filled, 2)
        sums = bank[row]
        for k in range(len(sums)):
            out[np.uint64(at + k)] = sums[k]
        at += len(sums)
        ids = min(accepted[row], kept)
        at = _put(out, at, ids, 1)
        for k in range(kept):
            at = _put(out, at, recent_ids[row, (accepted[row] - ids + k) % kept] if k < ids else 0, 8)
        at = _put(out, at, 0, 2 + 1)
        slot = (pushed[row] - filled) % ring  # of the oldest
        for _ in range(filled):
            at = _put(out, at, hashes[items[row, slot]], 8)
            at = _put(out, at, kinds[row, slot], 1)
            at = _put(out, at, sizes[row, slot], 2)
            at = _put(out, at, at_ms[row, slot], 6)
            slot = slot + 1 if slot + 1 < ring else 0
        ends[nth] = at


@part
def _put(out: Bytes, at: int, value: int, size: int) -> int:
    """The lowest bytes of a number, lowest first; where the next one goes."""
    for k in range(
        size
    ):  # unsigned: nobody looks whether it counts from the end, and stores of bytes become one
        out[np.uint64(at + k)] = (value >> 8 * k) & 255
    return at + size
