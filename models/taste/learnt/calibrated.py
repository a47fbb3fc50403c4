"""The learnt blend as a worker serves it: the candidates of a list are scored anew, with weights learnt from what
readers then chose. NumPy alone.

    candidates   the M best by the plain score, after every filter; parts s (M,) of each layer and source
    score(i)     = sum over parts p, forms f of w_pf * x_f(s_p(i) / max s_p)
                   forms as in `models.taste.learnt.blend`

The largest of a part is taken over the candidates, so a list costs M numbers a part and not one an item. Weights never
go below 0: no part can speak against an item, scores stay at 0 or above, and the parts of a score are exact shares of
it. The first weights are those of a list without anything learnt (`START`).

What a list was made of is remembered for a bounded number of readers (`Watch`). When such a reader then takes one of
the candidates, the weights move one bounded step towards it; what was not among the candidates, and so could not be
listed, says nothing. Own items that lead by a setting (`own`) keep their lead, and are not learnt from.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.taste.learnt.blend import FORMS, Blend, spread

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
Bools = NDArray[np.bool_]

PARTS = ("counts", "taste", "popularity", "walk", "content", "sequence", "nearest")
"""Whose weights are learnt; a part that a list has not got leaves its weights as they are."""
START = {"counts": 1.0}  # of the first form, z
OTHERS = 0.1  # of the first form of all other parts
FORM_NAMES = ("share", "root", "log")
LEADING = "own"
_LEAD = 100.0


@dataclass(frozen=True, slots=True)
class Candidates:
    """What B lists could have held, -1 padded, and the parts of the plain score in the order of `names`."""

    rows: I32  # (B,) of the readers
    items: I32  # (B, M)
    parts: NDArray[Any]  # (B, M, P) floats
    names: tuple[str, ...]
    by: "Learner"  # who is to learn from the choice


class Calibrated:
    """Weights by part and form. Not thread-safe."""

    def __init__(self, rate: float = 0.1) -> None:
        """`rate` bounds a step. Raises ValueError for one that is below 0 or not finite."""
        start = np.zeros((len(PARTS), FORMS))
        start[:, 0] = [START.get(name, OTHERS) for name in PARTS]
        self._blend = Blend(start.reshape(-1), rate)

    @property
    def choices(self) -> int:
        """How many were learnt from."""
        return self._blend.choices

    def weights(self) -> NDArray[np.float64]:
        """(parts, forms) in the order of PARTS."""
        return self._blend.weights.reshape(len(PARTS), FORMS).copy()

    def weigh(self, names: Sequence[str], parts: F32) -> F32:
        """What each part (B, M, P) comes to: they add up to the new scores (B, M). A part that is neither in PARTS nor
        leading comes to nothing."""
        batch, count, width = parts.shape
        weights = np.zeros((width, FORMS), np.float32)
        learnt = self._blend.weights.reshape(len(PARTS), FORMS)
        for nth, name in enumerate(names):
            if name in PARTS:
                weights[nth] = learnt[PARTS.index(name)]
            elif name == LEADING:
                weights[nth, 0] = _LEAD
        rows = np.ascontiguousarray(parts.transpose(0, 2, 1)).reshape(batch * width, count)
        forms = spread(rows).reshape(batch, width, FORMS, count)
        found: F32 = np.einsum("pf,bpfm->bmp", weights, forms)
        return found

    def learn(self, names: Sequence[str], parts: F32, chosen: int, possible: Bools) -> None:
        """A reader took candidate `chosen` of those `possible` (M,), with these parts (M, P)."""
        features = np.zeros((len(PARTS), FORMS, len(parts)), np.float32)
        some = [(nth, PARTS.index(name)) for nth, name in enumerate(names) if name in PARTS]
        forms = spread(np.ascontiguousarray(parts.T)).reshape(len(names), FORMS, -1)
        for nth, place in some:
            features[place] = forms[nth]
        if LEADING in names:
            possible = possible & (parts[:, names.index(LEADING)] <= 0)
        self._blend.learn(features.reshape(len(PARTS) * FORMS, -1), chosen, possible)
        np.maximum(self._blend.weights, 0, out=self._blend.weights)

    def encode(self) -> bytes:
        """The whole state."""
        return self._blend.encode()

    def load(self, value: bytes) -> None:
        """Take an encoded state. Raises BadInput("blend_layout") as `Blend.load`; the state is then unchanged."""
        self._blend.load(value)


class Learner(Protocol):
    """What learns from a choice."""

    @property
    def choices(self) -> int:
        """How many were learnt from."""
        ...

    def learn(self, names: Sequence[str], parts: NDArray[Any], chosen: int, possible: Bools) -> None:
        """A reader took candidate `chosen` of those `possible` (M,), with these parts (M, P)."""
        ...


class Watch:
    """The candidates of the newest list of up to `most` readers, by row; beyond, who was remembered longest ago leaves.
    A list is learnt from once."""

    def __init__(self, most: int = 2048) -> None:
        """Raises ValueError unless `most` is at least 1."""
        if most < 1:
            raise ValueError("at least one list must be remembered")
        self._most = most
        self._lists: dict[int, tuple[I32, NDArray[Any], tuple[str, ...], Learner]] = {}
        self._waits: Bools = np.zeros(64, np.bool_)  # by row
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._lists)

    def show(self, made: Candidates, places: Iterable[int]) -> None:
        """Remember the lists at these places of a batch."""
        for place in places:
            row = int(made.rows[place])
            self.forget([row])
            items, parts = made.items[place].copy(), made.parts[place].copy()
            self._lists[row] = (items, parts, made.names, made.by)
            self._bytes += items.nbytes + parts.nbytes
            if row >= len(self._waits):
                self._waits = np.append(self._waits, np.zeros(row + 1, np.bool_))
            self._waits[row] = True
            if len(self._lists) > self._most:
                self.forget([next(iter(self._lists))])

    def waiting(self, rows: I32) -> Bools:
        """Of readers by row (N,) those whose list is remembered."""
        found: Bools = (rows < len(self._waits)) & self._waits[np.minimum(rows, len(self._waits) - 1)]
        return found

    def chose(self, row: int, item: int) -> bool:
        """A reader whose list is remembered took an item; whether it was one of the candidates, and was learnt from."""
        items, parts, names, learner = self._lists[row]
        self.forget([row])
        at = np.flatnonzero(items == item)
        if not len(at) or item < 0:
            return False
        before = learner.choices
        learner.learn(names, parts, int(at[0]), items >= 0)
        return learner.choices > before

    def forget(self, rows: Sequence[int]) -> None:
        """Readers who left, by row."""
        for row in rows:
            held = self._lists.pop(row, None)
            if held is not None:
                self._bytes -= held[0].nbytes + held[1].nbytes
                self._waits[row] = False

    def bytes_used(self) -> int:
        """Bytes of the lists remembered."""
        return self._bytes
