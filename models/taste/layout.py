"""Bytes of one user's state in the changelog: version 2. Columnar both ways, little-endian, no padding.

    head    version u1 · settings u4 · fence i8 · newest_at_ms i8 · refs i8[H] · filled u2 · bank f4[H, D + 2]
            · ids u1 · recent_ids u8[16], `ids` of them, oldest first
    entries `filled` of them, oldest first: item hash u8 · kind i1 · at_ms low u4, high u2

`settings` is a hash of D, the half-lives and the ring's length. A value of another version or other settings
is refused, never misread: a change here needs a new version and a golden file beside the old one. Version 1 had no
recent ids; it is read as if there were none, and written as version 2.
"""

import struct
from collections.abc import Sequence
from hashlib import blake2b
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import BadInput
from models.taste.recent import KEPT

Records = NDArray[np.void]

VERSION = 2
WITHOUT_IDS = b"\x01"  # version 1
_ENTRY = np.dtype([("hash", "<u8"), ("kind", "i1"), ("at_low", "<u4"), ("at_high", "<u2")])


class StateLayout:
    """The layout of one choice of settings."""

    def __init__(self, dim: int, half_lives_ms: Sequence[int], ring: int) -> None:
        h = len(half_lives_ms)
        settings = struct.pack(f"<II{h}q", dim, ring, *half_lives_ms)
        self.settings = int.from_bytes(blake2b(settings, digest_size=4).digest(), "little")
        self.name = f"user v{VERSION}, settings {self.settings:08x}"
        self.ring = ring
        self.head = np.dtype(
            [
                ("version", "u1"),
                ("settings", "<u4"),
                ("fence", "<i8"),
                ("newest_at_ms", "<i8"),
                ("refs", "<i8", (h,)),
                ("filled", "<u2"),
                ("bank", "<f4", (h, dim + 2)),
                ("ids", "u1"),
                ("recent_ids", "<u8", (KEPT,)),
            ]
        )
        self._ids_bytes = 1 + 8 * KEPT
        self.largest_bytes = self.head.itemsize + ring * _ENTRY.itemsize

    def heads(self, count: int) -> Records:
        """(count,) heads with version and settings set, the rest to be filled in."""
        heads: Records = np.empty(count, self.head)
        heads["version"] = VERSION
        heads["settings"] = self.settings
        return heads

    def entries(
        self, hashes: NDArray[np.uint64], kinds: NDArray[np.int8], at_ms: NDArray[np.int64]
    ) -> Records:
        """(E,) ring entries."""
        entries: Records = np.empty(len(hashes), _ENTRY)
        entries["hash"] = hashes
        entries["kind"] = kinds
        entries["at_low"] = at_ms & 0xFFFFFFFF
        entries["at_high"] = at_ms >> 32
        return entries

    def join(self, heads: Records, entries: Records, ends: NDArray[np.int64]) -> list[bytes]:
        """One value a head; `ends` (count,) says where its entries end."""
        all_heads, all_entries = heads.tobytes(), entries.tobytes()
        size = self.head.itemsize
        stops = (ends * _ENTRY.itemsize).tolist()
        starts = [0, *stops][: len(stops)]
        begins = range(0, len(all_heads), size)
        return [
            all_heads[begin : begin + size] + all_entries[start:stop]
            for begin, start, stop in zip(begins, starts, stops, strict=True)
        ]

    def split(self, values: Sequence[bytes]) -> tuple[Records, Records]:
        """Heads (N,) and all entries, user after user. Raises BadInput("state_layout")."""
        size, count = self.head.itemsize, len(values)
        if not count:
            return np.empty(0, self.head), np.empty(0, _ENTRY)
        if all(values) and WITHOUT_IDS[0] in bytes(map(itemgetter(0), values)):
            values = [self._upgraded(value) for value in values]
        lengths = np.fromiter(map(len, values), np.int64, count)
        if int(lengths.min()) < size:
            raise BadInput("state_layout", f"a user's state is shorter than {size} bytes")
        width = min(int(lengths.max()), size + self.ring * _ENTRY.itemsize)
        # one value a line of a table of bytes; longer ones are cut, and refused by their length
        table = np.array(values, f"S{width}")
        heads: Records = np.ndarray((count,), self.head, table.view(np.uint8), strides=(width,))
        filled = heads["filled"].astype(np.int64)
        good = (heads["version"] == VERSION) & (heads["settings"] == self.settings)
        good &= (filled <= self.ring) & (lengths == size + filled * _ENTRY.itemsize)
        if not good.all():
            at = int(np.argmin(good))
            raise BadInput(
                "state_layout",
                f"a user's state has version {heads['version'][at]}, settings {heads['settings'][at]:08x} and "
                f"{lengths[at]} bytes; this build reads version {VERSION}, settings {self.settings:08x}",
            )
        most = int(filled.max())
        grid: Records = np.ndarray(
            (count, most), _ENTRY, table.view(np.uint8), offset=size, strides=(width, _ENTRY.itemsize)
        )
        return heads, grid[np.arange(most) < filled[:, None]]

    def _upgraded(self, value: bytes) -> bytes:
        """A value of version 1 as one of version 2; others as they are."""
        if value[:1] != WITHOUT_IDS:
            return value
        head = self.head.itemsize - self._ids_bytes
        return bytes([VERSION]) + value[1:head] + bytes(self._ids_bytes) + value[head:]


def fence_of(value: bytes) -> int:
    """The fence of one encoded user, of any version; below every fence where the value is too short to have one."""
    return int.from_bytes(value[5:13], "little", signed=True) if len(value) >= 13 else -(1 << 63)


def joined_at_ms(entries: Records) -> NDArray[np.int64]:
    """Times (E,) of ring entries."""
    low: NDArray[Any] = entries["at_low"].astype(np.int64)
    high: NDArray[Any] = entries["at_high"].astype(np.int64)
    joined: NDArray[np.int64] = low | (high << 32)
    return joined
