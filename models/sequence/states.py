"""Readers' states under one model, kept beside their rows and always what their rings say. NumPy alone.

A state is a cache: it follows from the reader's ring and the model. It is built from the ring where there is none,
where another model made it, or where the ring is not what it was and a few events more (an `undo`, a partition that
came back, a row that is another reader's now). Else the new events are stepped: O(1) each. Nothing is kept of a model
whose state is the window itself, nor beside rings too short to hold all that a state remembers.
"""

import numpy as np
from numpy.typing import NDArray

from models.sequence.folder import Loaded
from models.sequence.model import F32, I32, WINDOW, State
from models.taste import actions
from models.taste.readers.users import UserRows

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Bools = NDArray[np.bool_]

_MARKED = 8  # last events that a state remembers having seen
_FACTORS = np.array([(0x9E3779B97F4A7C15 * (2 * i + 1)) & (2**64 - 1) for i in range(_MARKED)], np.uint64)


class States:
    """Columns by row of `users`: state (U, width), the id of its model (U,), events seen (U,) and a mark of the last.

    Rows that are freed are wiped. Not thread-safe.
    """

    def __init__(self, users: UserRows) -> None:
        self._users = users
        self.rebuilt = 0  # states made from a ring
        self.stepped = 0  # events
        self._clear(0)
        users.freed.append(self._wipe)

    def bytes_used(self) -> int:
        """Bytes of the columns."""
        return sum(column.nbytes for column in (self._states, self._ids, self._seen, self._marks))

    def of(self, loaded: Loaded, codes: I32, rows: I32) -> State:
        """States (B, width) of readers by row (B,). `codes` gives each item of the index its number in the model's
        vocabulary, or -1."""
        if loaded.model.windowed or self._users.ring < WINDOW:
            return loaded.model.replay(self._rings(codes, rows))
        self._make_room(loaded)
        pushed = self._users.pushed[rows]
        new = pushed - self._seen[rows]
        goes_on = (self._ids[rows] == np.uint64(loaded.id)) & (new >= 0)
        goes_on &= new <= self._users.ring - _MARKED
        goes_on &= self._marks[rows] == self._mark(rows, self._seen[rows])
        fresh = np.flatnonzero(~goes_on)
        if len(fresh):
            self._states[rows[fresh]] = loaded.model.replay(self._rings(codes, rows[fresh]))
            self.rebuilt += len(fresh)
        self._step(loaded, codes, rows[goes_on], new[goes_on])
        self._ids[rows] = loaded.id
        self._seen[rows] = pushed
        self._marks[rows] = self._mark(rows, pushed)
        found: State = self._states[rows]
        return found

    def _step(self, loaded: Loaded, codes: I32, rows: I32, new: I64) -> None:
        for nth in range(int(new.max(initial=0))):
            some = rows[new > nth]
            slots = (self._seen[some] + nth) % self._users.ring
            self._states[some] = loaded.model.step(self._states[some], self._codes(codes, some, slots))
            self.stepped += len(some)

    def _rings(self, codes: I32, rows: I32) -> I32:
        """Whole rings (B, R), oldest first, -1 padded in front."""
        ring = self._users.ring
        nth = self._users.pushed[rows][:, None] + np.arange(-ring, 0)
        return np.where(nth >= 0, self._codes(codes, rows[:, None], nth % ring), np.int32(-1))

    def _codes(self, codes: I32, rows: I32, slots: I64) -> I32:
        """What was taken there, in the model's numbers; -1 for other kinds of events and unknown items."""
        positive = actions.is_positive(self._users.ring_kinds[rows, slots])
        return np.where(positive, codes[self._users.ring_items[rows, slots]], np.int32(-1))

    def _mark(self, rows: I32, seen: I64) -> U64:
        """(B,) 64 bits that stand for the last events of the first `seen`, as the ring holds them now."""
        nth = seen[:, None] - 1 - np.arange(_MARKED)
        slots = nth % self._users.ring
        at = rows[:, None]
        mixed = self._users.ring_at_ms[at, slots].astype(np.uint64) * np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= self._users.ring_items[at, slots].astype(np.uint64) * np.uint64(0x94D049BB133111EB)
        mixed += self._users.ring_kinds[at, slots].astype(np.uint64)
        mixed = (mixed ^ (mixed >> np.uint64(29))) * _FACTORS
        found: U64 = np.where(nth >= 0, mixed, np.uint64(0)).sum(axis=1, dtype=np.uint64)
        return found

    def _make_room(self, loaded: Loaded) -> None:
        if self._states.shape[1] != loaded.model.width:
            self._clear(loaded.model.width)
        size = len(self._users.fence)
        if len(self._states) < size:
            for name in ("_states", "_ids", "_seen", "_marks"):
                column = self.__dict__[name]
                grown = np.zeros((size, *column.shape[1:]), column.dtype)
                grown[: len(column)] = column
                self.__dict__[name] = grown

    def _clear(self, width: int) -> None:
        self._states: F32 = np.zeros((0, width), np.float32)
        self._ids: U64 = np.zeros(0, np.uint64)  # 0: no model's
        self._seen: I64 = np.zeros(0, np.int64)
        self._marks: U64 = np.zeros(0, np.uint64)

    def _wipe(self, rows: list[int]) -> None:
        """Readers who are forgotten leave nothing here."""
        held = [row for row in rows if row < len(self._states)]
        self._states[held] = 0
        self._ids[held] = 0


def numbers_of(hashes: U64, vocabulary: U64) -> I32:
    """Each hash's place (N,) in a model's vocabulary, -1 where it is not in it."""
    order = np.argsort(vocabulary, kind="stable")
    place = np.minimum(np.searchsorted(vocabulary[order], hashes), len(vocabulary) - 1)
    found = order[place]
    return np.where(vocabulary[found] == hashes, found, -1).astype(np.int32)
