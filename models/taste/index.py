"""Item names as small integers, stable 64-bit hashes and sign codes. NumPy alone.

A local index depends on the order in which a worker met the items and never leaves it. What is stored or sent
is the item's hash (BLAKE2b of its UTF-8 name, 8 bytes), and the code is a function of the hash: so users'
sums and changelogs mean the same on every worker and after every restart.
"""

from collections.abc import Sequence
from hashlib import blake2b
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]
I32 = NDArray[np.int32]
F32 = NDArray[np.float32]

UNKNOWN = 0  # the index of every item beyond the bound
_GOLDEN = 0x9E3779B97F4A7C15


def hash_of(name: str) -> int:
    """The item's 64-bit hash; never 0, which stands for the unknown item."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little") or 1


def sign_codes(hashes: U64, dim: int) -> F32:
    """Codes (N, dim) of +1 and -1, a pseudo-random function of the hash (splitmix64, 64 signs a word)."""
    words = np.empty((len(hashes), dim // 64), "<u8")
    for word in range(dim // 64):
        z = hashes + np.uint64((_GOLDEN * (word + 1)) & (2**64 - 1))
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        words[:, word] = z ^ (z >> np.uint64(31))
    bits = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")
    return bits.astype(np.float32) * 2 - 1


class ItemIndex:
    """Item name -> int32 index 1, 2, ...; grows by doubling up to `max_items`, then index 0 for newcomers.

    `names[i]` is None for an item known by hash only (read back from a changelog before its name was seen).
    `beyond` counts look-ups that met the bound. Two names with one hash (chance 3e-10 at 100k items)
    would be told apart until the next restart, and be one item after it.
    """

    def __init__(self, max_items: int = 1_000_000, dim: int = 64) -> None:
        if dim < 64 or dim % 64:
            raise ValueError("the dimension of codes must be a multiple of 64")
        self.dim = dim
        self.max_items = max_items
        self.beyond = 0
        self.names: list[str | None] = [None]
        self._index: dict[str, int] = {}
        self._nameless: dict[int, int] = {}
        self._hashes: U64 = np.zeros(1024, np.uint64)
        self._codes: F32 = np.zeros((1024, dim), np.float32)
        self._coded = 1  # codes below this index are made; index 0 has the zero code
        self._slots(4096)

    def __len__(self) -> int:
        """Items held, the unknown one included: indices are below this."""
        return len(self.names)

    @property
    def hashes(self) -> U64:
        """(len,) uint64; a view, valid until the next look-up."""
        return self._hashes[: len(self.names)]

    @property
    def codes(self) -> F32:
        """(len, dim) float32 of +1 and -1 (index 0: zeros); a view, valid until the next look-up."""
        self._make_codes()
        return self._codes[: len(self.names)]

    def lookup(self, ids: Sequence[str]) -> I32:
        """Indices (N,) int32 of item names; new names are added."""
        try:
            return np.fromiter(map(self._index.__getitem__, ids), np.int32, len(ids))
        except KeyError:
            found = np.fromiter(map(self._index.get, ids, repeat(-1)), np.int32, len(ids))
            for i in np.flatnonzero(found < 0).tolist():
                found[i] = self._index.get(ids[i]) or self._add_name(ids[i])
            return found

    def find(self, ids: Sequence[str]) -> I32:
        """Indices (N,) int32 of item names, -1 for unknown ones: nothing is added."""
        return np.fromiter(map(self._index.get, ids, repeat(-1)), np.int32, len(ids))

    def by_hash(self, hashes: U64) -> I32:
        """Indices (N,) int32 of item hashes; unknown ones are added without a name. Hash 0 gives index 0."""
        found = self._probe(hashes)
        missing = np.flatnonzero(found < 0)
        if len(missing):
            for value in np.unique(hashes[missing]).tolist():
                index = self._add(value, None)
                if index:
                    self._nameless[value] = index
            found[missing] = np.maximum(self._probe(hashes[missing]), UNKNOWN)
        return found

    def index_of(self, value: int) -> int:
        """The index of an item's hash, or UNKNOWN for one that was never met: looking adds nothing."""
        return max(int(self._probe(np.array([value], np.uint64))[0]), UNKNOWN)

    def bytes_used(self) -> int:
        """Bytes of the arrays and, estimated, of the names."""
        arrays = self._hashes.nbytes + self._codes.nbytes + self._keys.nbytes + self._values.nbytes
        return arrays + 200 * len(self.names)

    def _add_name(self, name: str) -> int:
        value = hash_of(name)
        index = self._nameless.pop(value, UNKNOWN)
        if index:
            self.names[index] = name
        else:
            index = self._add(value, name)
        if index:
            self._index[name] = index
        return index

    def _add(self, value: int, name: str | None) -> int:
        index = len(self.names)
        if index > self.max_items:
            self.beyond += 1
            return UNKNOWN
        if index == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.zeros_like(self._hashes)])
            self._codes = np.concatenate([self._codes, np.zeros_like(self._codes)])
        self.names.append(name)
        self._hashes[index] = value
        if 2 * index >= len(self._keys):
            self._slots(2 * len(self._keys))
        else:
            self._place(value, index)
        return index

    def _make_codes(self) -> None:
        count = len(self.names)
        if self._coded < count:
            self._codes[self._coded : count] = sign_codes(self._hashes[self._coded : count], self.dim)
            self._coded = count

    # Open addressing with linear probing, at most half full: by_hash walks it for a whole array at once.

    def _slots(self, size: int) -> None:
        self._keys: U64 = np.zeros(size, np.uint64)
        self._values: I32 = np.full(size, -1, np.int32)
        for index, value in enumerate(self._hashes[1 : len(self.names)].tolist(), start=1):
            self._place(value, index)

    def _place(self, value: int, index: int) -> None:
        mask = len(self._keys) - 1
        slot = value & mask
        while self._values[slot] >= 0:
            slot = (slot + 1) & mask
        self._keys[slot] = value
        self._values[slot] = index

    def _probe(self, hashes: U64) -> I32:
        mask = np.uint64(len(self._keys) - 1)
        slots = hashes & mask
        found: I32 = self._values[slots]
        open_ = np.flatnonzero((self._keys[slots] != hashes) & (found >= 0))
        while len(open_):
            slots[open_] = (slots[open_] + np.uint64(1)) & mask
            step = slots[open_]
            found[open_] = self._values[step]
            open_ = open_[(self._keys[step] != hashes[open_]) & (found[open_] >= 0)]
        found[hashes == 0] = UNKNOWN
        return found
