"""Bytes of one user's state in the changelog: version 3. Columnar both ways, little-endian, no padding.

    head    version u1 · settings u4 · fence i8 · newest_at_ms i8 · refs i8[H] · filled u2 · bank f4[H, D + 2]
            · ids u1 · recent_ids u8[16], `ids` of them, oldest first
    entries `filled` of them, oldest first: item hash u8 · kind i1 · size of the weight u2, in steps of 1/256 (the kind
            tells its sign) · at_ms low u4, high u2

`settings` is a hash of D, the half-lives and the ring's length. A value of another version or other settings
is refused, never misread: a change here needs a new version and a golden file beside the old one. Version 1 had no
recent ids; it is read as if there were none. Versions 1 and 2 had no weights of entries, and kept an `undo` as
an entry: they are read with the default weight of each kind (0 for a dwell: its time is not known) and without these.
All are written as version 3.
"""

import struct
from collections.abc import Sequence
from hashlib import blake2b
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import BadInput
from models.taste import actions
from models.taste.recent import KEPT

Records = NDArray[np.void]

VERSION = 3
WITHOUT_IDS, WITHOUT_WEIGHTS = 1, 2  # older versions
_ENTRY = np.dtype([("hash", "<u8"), ("kind", "i1"), ("size", "<u2"), ("at_low", "<u4"), ("at_high", "<u2")])
_ENTRY_2 = np.dtype([("hash", "<u8"), ("kind", "i1"), ("at_low", "<u4"), ("at_high", "<u2")])


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
        self,
        hashes: NDArray[np.uint64],
        kinds: NDArray[np.int8],
        sizes: NDArray[np.uint16],
        at_ms: NDArray[np.int64],
    ) -> Records:
        """(E,) ring entries; `sizes` of weights in steps of 1/256."""
        entries: Records = np.empty(len(hashes), _ENTRY)
        entries["hash"] = hashes
        entries["kind"] = kinds
        entries["size"] = sizes
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
        if all(values) and min(map(itemgetter(0), values)) < VERSION:
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
        """A value of an older version as one of this; others, and those of a wrong length, as they are."""
        size = self.head.itemsize
        if value[0] == WITHOUT_IDS:
            without = size - self._ids_bytes
            value = bytes([WITHOUT_WEIGHTS]) + value[1:without] + bytes(self._ids_bytes) + value[without:]
        rest = len(value) - size
        if value[0] != WITHOUT_WEIGHTS or rest < 0 or rest % _ENTRY_2.itemsize:
            return value
        head: Records = np.frombuffer(value[:size], self.head).copy()
        old: Records = np.frombuffer(value[size:], _ENTRY_2)
        if (
            int(head["filled"][0]) != len(old)
            or not ((old["kind"] >= 0) & (old["kind"] <= actions.UNDO)).all()
        ):
            return value
        old = old[old["kind"] != actions.UNDO]
        kinds = old["kind"].astype(np.int8)
        sizes = np.where(kinds == actions.DWELL, np.uint16(0), actions.sizes_of(actions.WEIGHTS[kinds]))
        head["version"], head["filled"] = VERSION, len(old)
        return head.tobytes() + self.entries(old["hash"], kinds, sizes, joined_at_ms(old)).tobytes()


def fence_of(value: bytes) -> int:
    """The fence of one encoded user, of any version; below every fence where the value is too short to have one."""
    return int.from_bytes(value[5:13], "little", signed=True) if len(value) >= 13 else -(1 << 63)


def joined_at_ms(entries: Records) -> NDArray[np.int64]:
    """Times (E,) of ring entries."""
    low: NDArray[Any] = entries["at_low"].astype(np.int64)
    high: NDArray[Any] = entries["at_high"].astype(np.int64)
    joined: NDArray[np.int64] = low | (high << 32)
    return joined
