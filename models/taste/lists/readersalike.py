"""Readers alike as a source of a worker's lists: what the N nearest readers had, by user-user cosine. NumPy alone.

    r_v        the last P distinct positive items of reader v, each 1
    w_u        the same of the reader who asks, the k-th most recent weighing fade**(k-1)
    sim(u, v)  = w_u . r_v / (|w_u| |r_v|)
    S(i)       = sum over the N nearest v of sim(u, v) [i in r_v] / the largest of these sums

The bounded top-N form of `models.taste.alike.usercf` over the readers of this worker: candidates are who came last to
one of the reader's last items, from an index item -> last readers; their similarities are exact. Profiles follow from
readers' rings: they are no part of a state, are made anew when a partition is read back, and go with their reader.
Index and profiles hold row numbers and item indices, never names; who is near is told to nobody, only sums are. 4 P
bytes a reader and 4 K bytes an item.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.taste import actions, columns
from models.taste.readers.users import UserRows

F32 = NDArray[np.float32]
I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

PROFILE = 32  # P
PER_ITEM = 20  # K, last readers of an item
ASKED = 10  # of the reader's last items, whose readers are candidates
NEAREST = 30  # N
FADE = 0.95


class ReadersAlike:
    """See `models.taste.lists.sources.Source`. Not thread-safe.

    profiles (U, P) int32 newest first, -1 padded; last (I, K) int32 rows, -1 where none; pushed (I,) int64.
    """

    name = "nearest"

    def __init__(self, users: UserRows) -> None:
        """`users` are those that `follow`, `read_back` and `scores` are asked about."""
        self._users = users
        self.profiles: I32 = np.full((0, PROFILE), -1, np.int32)
        self.last: I32 = np.full((0, PER_ITEM), -1, np.int32)
        self.pushed: I64 = np.zeros(0, np.int64)
        users.freed.append(self._forget)

    def follow(self, rows: I32, items: I32, kinds: I8, applied: Bools) -> None:
        """Events (n,) in their order, by row of the reader, that were just folded."""
        came = applied & actions.is_positive(kinds) & (items > 0)
        self._push(items[came], rows[came])
        self._profile(np.unique(rows[applied]))

    def read_back(self, rows: I32) -> None:
        """Readers by row whose states were just read: as if their rings' events came now, the oldest first."""
        self._profile(rows)
        items, kinds, at_ms = self._users.recent(rows, self._users.ring)
        reader, nth = np.nonzero(actions.is_positive(kinds) & (items > 0))
        order = np.lexsort((-nth, at_ms[reader, nth]))
        reader, nth = reader[order], nth[order]
        self._push(items[reader, nth], rows[reader])

    def scores(self, users: UserRows, rows: I32, now_ms: int) -> F32:
        """(B, I), 1 for the item that readers alike had most; 0 for who has no history or nobody like them."""
        size, batch = len(users.items), len(rows)
        found = np.zeros((batch, size), np.float32)
        if not batch or not len(self.last):
            return found
        mine = self._held(rows)
        weights, length = self._weights(mine)
        weighed = np.zeros((batch, size + 1), np.float32)  # the last column is no item
        weighed[np.arange(batch)[:, None], mine] = weights
        weighed[:, size] = 0
        others = self._candidates(rows, mine[:, :ASKED])
        held = self._held(others.reshape(-1)).reshape(*others.shape, PROFILE)
        near = np.take_along_axis(weighed, held.reshape(batch, -1), 1).reshape(held.shape).sum(axis=2)
        sizes = np.sqrt(np.maximum((held >= 0).sum(axis=2), 1), dtype=np.float32)
        near /= sizes * np.maximum(length, np.float32(1e-9))[:, None]
        best = np.argsort(-near, axis=1, kind="stable")[:, :NEAREST]
        near = np.take_along_axis(near, best, 1)
        reader, nth, place = np.nonzero(
            (np.take_along_axis(held, best[..., None], 1) >= 0) & (near > 0)[..., None]
        )
        cells = reader * size + held[reader, best[reader, nth], place]
        sums = np.bincount(cells, near[reader, nth], found.size)
        found[:] = sums.reshape(found.shape)
        found /= np.maximum(found.max(axis=1, initial=0), np.float32(1e-9))[:, None]
        return found

    def bytes_used(self) -> int:
        """Bytes of profiles and index."""
        return self.profiles.nbytes + self.last.nbytes + self.pushed.nbytes

    def _weights(self, mine: I32) -> tuple[F32, F32]:
        """What the items of profiles (B, P) weigh, and the lengths (B,) of these vectors."""
        fading = (FADE ** np.arange(PROFILE)).astype(np.float32)
        weights: F32 = np.where(mine >= 0, fading, np.float32(0))
        return weights, np.sqrt((weights * weights).sum(axis=1))

    def _candidates(self, rows: I32, asked: I32) -> I32:
        """(B, C) rows of other readers who came last to the items asked (B, A), each once, ascending; -1 padded."""
        inside = (asked >= 0) & (asked < len(self.last))
        found = np.where(inside[..., None], self.last[np.where(inside, asked, 0)], np.int32(-1))
        found = found.reshape(len(rows), -1)
        found.sort(axis=1)
        again = np.zeros(found.shape, np.bool_)
        again[:, 1:] = found[:, 1:] == found[:, :-1]
        return np.where(again | (found == rows[:, None]), np.int32(-1), found)

    def _held(self, rows: I32) -> I32:
        """Profiles (N, P); nothing of a row that has none."""
        inside = (rows >= 0) & (rows < len(self.profiles))
        if not inside.any():
            return np.full((len(rows), PROFILE), -1, np.int32)
        return np.where(inside[:, None], self.profiles[np.where(inside, rows, 0)], np.int32(-1))

    def _profile(self, rows: I32) -> None:
        """Make the profiles of readers by row (N,), each once, from their rings."""
        if not len(rows):
            return
        self._reserve(int(rows.max()) + 1)
        items, kinds, _ = self._users.recent(rows, self._users.ring)
        items = np.where(actions.is_positive(kinds) & (items > 0), items, np.int32(-1))
        order = np.argsort(items, axis=1, kind="stable")  # of equal ones the newest first
        ranked = np.take_along_axis(items, order, 1)
        first = np.ones(ranked.shape, np.bool_)
        first[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
        distinct = np.zeros(first.shape, np.bool_)
        np.put_along_axis(distinct, order, first, 1)
        distinct &= items >= 0
        nth = np.cumsum(distinct, axis=1) - 1
        reader, place = np.nonzero(distinct & (nth < PROFILE))
        self.profiles[rows] = -1
        self.profiles[rows[reader], nth[reader, place]] = items[reader, place]

    def _push(self, items: I32, rows: I32) -> None:
        """Readers by row (n,) came to items (n,), in their order."""
        if not len(items):
            return
        size = len(self.last)
        if int(items.max()) >= size:
            more = max(int(items.max()) + 1, 2 * size, 1024) - size
            self.last = np.concatenate([self.last, np.full((more, PER_ITEM), -1, np.int32)])
            self.pushed = np.append(self.pushed, np.zeros(more, np.int64))
        order = np.argsort(items, kind="stable")
        items, rows = items[order], rows[order]
        distinct, starts, counts = np.unique(items, return_index=True, return_counts=True)
        nth = np.arange(len(items)) - np.repeat(starts, counts)
        kept = nth >= np.repeat(counts, counts) - PER_ITEM
        slots = (self.pushed[items[kept]] + nth[kept]) % PER_ITEM
        self.last[items[kept], slots] = rows[kept]
        self.pushed[distinct] += counts

    def _forget(self, rows: Sequence[int]) -> None:
        """Readers who left, by row. The index may name the row on: its profile is empty, or that of who has it then."""
        known = [row for row in rows if row < len(self.profiles)]
        self.profiles[known] = -1

    def _reserve(self, rows: int) -> None:
        size = len(self.profiles)
        if rows > size:
            grown = max(rows, 64, 2 * size if size < 1024 else size + size // 4)
            columns.grow(self.__dict__, "profiles", grown)
            self.profiles[size:] = -1
