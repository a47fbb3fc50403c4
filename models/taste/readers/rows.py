"""Readers' tastes as columns: decayed sums of item codes, a ring of recent events, a fence, the last ids. Who has which
row, and what the rings hold; what events change is in `models.taste.readers.fold`. NumPy alone.
"""

from collections.abc import Callable, Sequence
from itertools import chain, repeat

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled
from models.taste import columns, decay
from models.taste.index import ItemIndex
from models.taste.readers import layout
from models.taste.readers.hidden import Hidden

F32 = NDArray[np.float32]
I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

HALF_LIVES_S = (60.0, 3600.0, 86400.0, 30 * 86400.0)


class Rows:
    """Columns by row; a row belongs to one user of one partition until `forget` or `drop`. Not thread-safe.

    All partitions of a worker share the columns, so that a batch over many partitions is one fold; which
    users a partition has is known by name, and a partition goes as a whole.

    fence (U,) int64 last applied source offset or -1; newest_at_ms (U,) int64; refs (U, H) int64 newest n or
    -1; bank (U, H, D + 2) float32; recent_ids (U, KEPT) uint64, slot = number accepted mod KEPT; accepted (U,);
    ring_items, ring_kinds, ring_at_ms, ring_sizes (U, R), slot = number pushed mod R; pushed (U,).
    """

    def __init__(
        self,
        items: ItemIndex,
        half_lives_s: Sequence[float] = HALF_LIVES_S,
        ring: int = 64,
    ) -> None:
        """`half_lives_s` may hold math.inf (nothing is forgotten). Raises ValueError on one under 1 ms."""
        self.items = items
        self.half_lives_ms = decay.whole_ms(half_lives_s)
        self.half_lives: I64 = np.array(self.half_lives_ms, np.int64)  # the same as an array
        self.ring = ring
        self.layout = layout.StateLayout(items.dim, self.half_lives_ms, ring)
        self.hidden = Hidden()
        self.freed: list[Callable[[list[int]], None]] = [
            self.hidden.forget
        ]  # called with rows that lose their reader
        self.clear()

    def clear(self) -> None:
        """Forget everybody; memory is given back."""
        self.hidden.clear()
        h, r, size = len(self.half_lives_ms), self.ring, 64
        self._index: dict[int, dict[str, int]] = {}
        self.names: list[str] = []  # by row; empty where the row is free
        self.partition_of: I32 = np.full(64, -1, np.int32)
        self._free: list[int] = []
        self.fence: I64 = np.full(size, -1, np.int64)
        self.newest_at_ms: I64 = np.zeros(size, np.int64)
        self.refs: I64 = np.full((size, h), -1, np.int64)
        self.bank: F32 = np.zeros((size, h, self.items.dim + 2), np.float32)
        self.accepted: I64 = np.zeros(size, np.int64)
        self.recent_ids: U64 = np.zeros((size, layout.KEPT), np.uint64)
        self.pushed: I64 = np.zeros(size, np.int64)
        self.ring_items: I32 = np.zeros((size, r), np.int32)
        self.ring_kinds: I8 = np.zeros((size, r), np.int8)
        self.ring_at_ms: I64 = np.zeros((size, r), np.int64)
        self.ring_sizes: NDArray[np.uint16] = np.zeros((size, r), np.uint16)  # of weights: `actions.sizes_of`

    def __len__(self) -> int:
        return sum(map(len, self._index.values()))

    def users(self, partition: int = 0) -> list[str]:
        """Names of a partition's users, in no particular order."""
        return list(self._index.get(partition, ()))

    def rows_of(self, users: Sequence[str], partition: int = 0) -> I32:
        """Rows (N,) int32; users not yet known to the partition get an empty row."""
        index = self._index.setdefault(partition, {})
        try:
            return np.fromiter(map(index.__getitem__, users), np.int32, len(users))
        except KeyError:
            if index.keys().isdisjoint(users) and len(set(users)) == len(users):  # as in a recovery
                return self._add_all(users, index, partition)
            found = np.fromiter(map(index.get, users, repeat(-1)), np.int32, len(users))
            missing = np.flatnonzero(found < 0)
            wanted = [users[i] for i in missing.tolist()]
            self._add_all(list(dict.fromkeys(wanted)), index, partition)
            found[missing] = np.fromiter(map(index.__getitem__, wanted), np.int32, len(wanted))
            return found

    def rows_of_all(self, users: Sequence[tuple[int, Sequence[str]]]) -> I32:
        """`rows_of` the users of several partitions, one after another."""
        try:
            known = (map(self._index[partition].__getitem__, some) for partition, some in users)
            return np.fromiter(chain.from_iterable(known), np.int32)
        except KeyError:
            return np.concatenate([self.rows_of(some, partition) for partition, some in users])

    def find(self, user: str, partition: int = 0) -> int | None:
        """The row of a user, if there is one: looking makes none."""
        return self._index.get(partition, {}).get(user)

    def strangers(self, users: Sequence[str], partition: int = 0) -> set[str]:
        """Those of the users who have no row in the partition."""
        return set(users).difference(self._index.get(partition, ()))

    def fence_of(self, user: str, partition: int = 0) -> int:
        """The user's fence; -1 where there is no row. Gives nobody a row."""
        row = self._index.get(partition, {}).get(user)
        return -1 if row is None else int(self.fence[row])

    def forget(self, user: str, partition: int = 0) -> bool:
        """Erase one user; whether there was one. The row is reused."""
        row = self._index.get(partition, {}).pop(user, None)
        if row is None:
            return False
        self._free_rows([row])
        return True

    def drop(self, partition: int) -> None:
        """Erase all users of a partition; their rows are reused."""
        self._free_rows(list(self._index.pop(partition, {}).values()))

    def _free_rows(self, rows: list[int]) -> None:
        for row in rows:
            self.names[row] = ""
        for name, empty in _COLUMNS.items():
            self.__dict__[name][rows] = empty
        for wipe in self.freed:
            wipe(rows)
        self._free += rows

    def bytes_used(self) -> int:
        """Bytes of the columns and, estimated, of the names and their index."""
        arrays: int = sum(self.__dict__[name].nbytes for name in _COLUMNS)
        return arrays + self.hidden.bytes_used() + 190 * len(self)

    def recent(self, rows: I32 | I64, window: int) -> tuple[I32, I8, I64]:
        """The last `window` ring entries, most recent first: items (B, W), -1 padded; kinds and at_ms, 0 padded."""
        count = len(rows)
        items, kinds = np.empty((count, window), np.int32), np.empty((count, window), np.int8)
        at_ms = np.empty((count, window), np.int64)
        rings = (self.pushed, self.ring_items, self.ring_kinds, self.ring_at_ms)
        _look_back(rows.astype(np.int64), rings, (items, kinds, at_ms))
        return items, kinds, at_ms

    def _add_all(self, users: Sequence[str], index: dict[str, int], partition: int) -> I32:
        """Give rows to distinct users who have none: free ones first, then new ones. The rows (N,)."""
        self.reserve(len(self.names) + len(users))
        reused = [self._free.pop() for _ in range(min(len(self._free), len(users)))]
        first = len(self.names)
        rows = [*reused, *range(first, first + len(users) - len(reused))]
        index.update(zip(users, rows, strict=True))
        for row, name in zip(reused, users, strict=False):
            self.names[row] = name
        self.names += users[len(reused) :]
        given = np.array(rows, np.int32)
        self.partition_of[given] = partition
        return given

    def reserve(self, rows: int) -> None:
        """Room for this many rows. By a quarter once large: doubling would break the promise of 3 KB a user."""
        size = len(self.fence)
        if rows <= size:
            return
        grown = max(rows, 2 * size if size < 1024 else size + size // 4)
        for name, empty in _COLUMNS.items():
            columns.grow(self.__dict__, name, grown)
            if empty:
                self.__dict__[name][size:] = empty


# Every column and the value of an empty row.
_COLUMNS = {
    "partition_of": -1,
    "fence": -1,
    "newest_at_ms": 0,
    "refs": -1,
    "bank": 0,
    "accepted": 0,
    "recent_ids": 0,
    "pushed": 0,
    "ring_items": 0,
    "ring_kinds": 0,
    "ring_at_ms": 0,
    "ring_sizes": 0,
}


Ring = tuple[I64, I32, I8, I64]
Window = tuple[I32, I8, I64]


@compiled(
    "void(int64[::1], Tuple((int64[::1], int32[:, ::1], int8[:, ::1], int64[:, ::1])),"
    "Tuple((int32[:, ::1], int8[:, ::1], int64[:, ::1])))"
)
def _look_back(rows: I64, rings: Ring, found: Window) -> None:
    """Into `found`, (B, W) each, the last entries of the rings of rows (B,)."""
    pushed, ring_items, ring_kinds, ring_at_ms = rings
    items, kinds, at_ms = found
    size, window = ring_items.shape[1], items.shape[1]
    for n in range(len(rows)):
        row = rows[n]
        held, slot = min(pushed[row], size, window), pushed[row] % size
        for back in range(held):
            slot = slot - 1 if slot else size - 1
            items[n, back] = ring_items[row, slot]
            kinds[n, back] = ring_kinds[row, slot]
            at_ms[n, back] = ring_at_ms[row, slot]
        for back in range(held, window):
            items[n, back], kinds[n, back], at_ms[n, back] = -1, 0, 0
