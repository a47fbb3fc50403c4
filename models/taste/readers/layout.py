"""Bytes of one user's state in the changelog: version 4. Columnar both ways, little-endian, no padding.

    head    version u1 · settings u4 · fence i8 · newest_at_ms i8 · refs i8[H] · filled u2 · bank f4[H, D + 2]
            · ids u1 · recent_ids u8[16], `ids` of them, oldest first · hidden u2 · authors u1
    entries `filled` of them, oldest first: item hash u8 · kind i1 · size of the weight u2, in steps of 1/256 (the kind
            tells its sign) · at_ms low u4, high u2
    hidden  `hidden` hashes u8 of items, then `authors` hashes u8 of names, oldest first

`settings` is a hash of D, the half-lives and the ring's length. A value of another version or other settings
is refused, never misread: a change here needs a new version and a golden file beside the old one. Version 1 had no
recent ids; it is read as if there were none. Versions 1 and 2 had no weights of entries, and kept an `undo` as
an entry: they are read with the default weight of each kind (0 for a dwell: its time is not known) and without these.
Version 3 had nothing hidden beside the ring: it is read as if what the ring has of `hide` and `report` were hidden. All
are written as version 4.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import BadInput
from models.taste import actions
from models.taste.readers.hidden import MOST_AUTHORS, MOST_ITEMS

Records = NDArray[np.void]

VERSION = 4
WITHOUT_IDS, WITHOUT_WEIGHTS, WITHOUT_HIDDEN = 1, 2, 3  # older versions
KEPT = 16  # last accepted ids of a reader
_HIDDEN_BYTES = 2 + 1  # of the head
_HASH_BYTES = 8
_ENTRY = np.dtype([("hash", "<u8"), ("kind", "i1"), ("size", "<u2"), ("at_low", "<u4"), ("at_high", "<u2")])
_ENTRY_2 = np.dtype([("hash", "<u8"), ("kind", "i1"), ("at_low", "<u4"), ("at_high", "<u2")])


@dataclass(frozen=True, slots=True)
class Tail:
    """Hashes of what a user hides: of items and of authors' names."""

    items: NDArray[np.uint64]
    authors: NDArray[np.uint64]


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
                ("hidden", "<u2"),
                ("authors", "u1"),
            ]
        )
        self._ids_bytes = 1 + 8 * KEPT
        self._tail_bytes = _HASH_BYTES * (MOST_ITEMS + MOST_AUTHORS)
        self.plain_bytes = self.head.itemsize + ring * _ENTRY.itemsize  # a full ring, nothing hidden
        self.largest_bytes = self.plain_bytes + self._tail_bytes

    def with_tail(self, value: bytes, tail: Tail) -> bytes:
        """A value that has none, with what is hidden."""
        head: Records = np.frombuffer(value[: self.head.itemsize], self.head).copy()
        head["hidden"], head["authors"] = len(tail.items), len(tail.authors)
        hidden = tail.items.astype("<u8").tobytes() + tail.authors.astype("<u8").tobytes()
        return head.tobytes() + value[self.head.itemsize :] + hidden

    def split(self, values: Sequence[bytes]) -> tuple[Records, Records, dict[int, Tail]]:
        """Heads (N,), all entries, user after user, and by place what is hidden. Raises BadInput("state_layout")."""
        size, count = self.head.itemsize, len(values)
        if not count:
            return np.empty(0, self.head), np.empty(0, _ENTRY), {}
        if all(values) and min(map(itemgetter(0), values)) < VERSION:
            values = [self._upgraded(value) for value in values]
        lengths = np.fromiter(map(len, values), np.int64, count)
        if int(lengths.min()) < size:
            raise BadInput("state_layout", f"a user's state is shorter than {size} bytes")
        width = min(int(lengths.max()), self.largest_bytes)
        # one value a line of a table of bytes; longer ones are cut, and refused by their length
        table = np.array(values, f"S{width}")
        heads: Records = np.ndarray((count,), self.head, table.view(np.uint8), strides=(width,))
        filled = heads["filled"].astype(np.int64)
        good = (heads["version"] == VERSION) & (heads["settings"] == self.settings)
        items, authors = heads["hidden"].astype(np.int64), heads["authors"].astype(np.int64)
        good &= (filled <= self.ring) & (items <= MOST_ITEMS) & (authors <= MOST_AUTHORS)
        starts = size + filled * _ENTRY.itemsize
        good &= lengths == starts + _HASH_BYTES * (items + authors)
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
        tails = {}
        for place in np.flatnonzero(items + authors).tolist():
            hashes = np.frombuffer(values[place], "<u8", offset=int(starts[place])).astype(np.uint64)
            tails[place] = Tail(hashes[: items[place]], hashes[items[place] :])
        return heads, grid[np.arange(most) < filled[:, None]], tails

    def _upgraded(self, value: bytes) -> bytes:
        """A value of an older version as one of this; others, and those of a wrong length, as they are."""
        size = self.head.itemsize
        if value[0] == WITHOUT_IDS:
            without = size - _HIDDEN_BYTES - self._ids_bytes
            value = bytes([WITHOUT_WEIGHTS]) + value[1:without] + bytes(self._ids_bytes) + value[without:]
        if value[0] in (WITHOUT_WEIGHTS, WITHOUT_HIDDEN):
            without, version = size - _HIDDEN_BYTES, value[0]
            value = value[:without] + bytes(_HIDDEN_BYTES) + value[without:]
            return self._with_hidden(value, _ENTRY_2 if version == WITHOUT_WEIGHTS else _ENTRY)
        return value

    def _with_hidden(self, value: bytes, form: Any) -> bytes:
        """A value whose head is of this version, with entries of version 2 or 3."""
        size, rest = self.head.itemsize, len(value) - self.head.itemsize
        if rest < 0 or rest % form.itemsize:
            return value
        head: Records = np.frombuffer(value[:size], self.head).copy()
        old: Records = np.frombuffer(value[size:], form)
        kinds = old["kind"].astype(np.int8)
        if int(head["filled"][0]) != len(old) or not ((kinds >= 0) & (kinds <= actions.UNDO)).all():
            return value
        if form is _ENTRY_2:
            old, kinds = old[kinds != actions.UNDO], kinds[kinds != actions.UNDO]
            sizes = np.where(kinds == actions.DWELL, np.uint16(0), actions.sizes_of(actions.WEIGHTS[kinds]))
        else:
            sizes = old["size"].astype(np.uint16)
        hidden = old["hash"][actions.is_hiding(kinds) & (old["hash"] != 0)].tolist()
        tail = Tail(np.array(list(dict.fromkeys(hidden)), np.uint64), np.empty(0, np.uint64))
        head["version"], head["filled"] = VERSION, len(old)
        entries: Records = np.empty(len(old), _ENTRY)
        for name in ("hash", "at_low", "at_high"):
            entries[name] = old[name]
        entries["kind"], entries["size"] = kinds, sizes
        return self.with_tail(head.tobytes() + entries.tobytes(), tail)


def fence_of(value: bytes) -> int:
    """The fence of one encoded user, of any version; below every fence where the value is too short to have one."""
    return int.from_bytes(value[5:13], "little", signed=True) if len(value) >= 13 else -(1 << 63)


def joined_at_ms(entries: Records) -> NDArray[np.int64]:
    """Times (E,) of ring entries."""
    low: NDArray[Any] = entries["at_low"].astype(np.int64)
    high: NDArray[Any] = entries["at_high"].astype(np.int64)
    joined: NDArray[np.int64] = low | (high << 32)
    return joined
