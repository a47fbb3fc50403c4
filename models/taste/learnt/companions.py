"""What goes with what, what readers alike had and what is chosen now: counts over choices. NumPy alone.

    steps, wide       pairs over the last three items both ways, and over the last 50 (`models.taste.learnt.pairs`)
    steps-walk        a second step along the pairs of `steps`
    follows, beside   what came directly after the last item; what stood directly beside it
    together          what was chosen in the same second as the reader's latest items: one page sent at once; with
    together-walk     a second step
    readers           readers alike (`models.taste.alike.nearest`), their latest items counting most
    alongside         the same readers, what lies beside the shared items counting most
    ridge             what foretells an item, all others given (`models.taste.learnt.ridge`); nothing without one
    now-50, now, ...  what is chosen, with half-lives of 50, 700 and 2,000 events
    place             what readers chose after about as many events

One file for the lists that a worker serves (`models.taste.learnt.knowledge`) and for the rows of an evaluation, which
give it whole matrices of pairs. It learns from choices alone, one by one, and is as bounded as what it is given.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.taste.alike.nearest import NearestReaders
from models.taste.alike.usercf import latest, of, with_value
from models.taste.learnt.pairs import LAST_STEPS, WIDE, Pairs, PairSettings
from models.taste.learnt.ridge import Ridge
from models.taste.learnt.trends import Trends
from models.taste.readers.past import Past

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]

FOLLOWS = PairSettings(window=1, symmetry=0.0, popularity_power=0.2)
BESIDE = PairSettings(window=1, symmetry=1.0, popularity_power=0.2)
PAIRS = {"steps": LAST_STEPS, "wide": WIDE, "follows": FOLLOWS, "beside": BESIDE}
TOGETHER = PairSettings(window=40, discount=1.0, order_decay=1.0, symmetry=1.0)
HALF_LIVES_EVENTS = (50.0, 700.0, 2000.0)
NAMES = (
    *PAIRS, "together", "together-walk", "steps-walk", "readers", "alongside", "ridge",
    "now-50", "now", "now-2000", "place",
)  # fmt: skip
_FADE = 0.95  # of a reader's items when looking for the like, from one to the one before
_RIDGE_FADE, _RIDGE_WINDOW = np.float32(0.9), 60
_SAME_MS = 1000


class Counts(Protocol):
    """Pairs, however they are kept."""

    def learn(self, recent: I32, item: int) -> None:
        """A reader who had `recent` (oldest first, repeats stay) came to `item`."""
        ...

    def scores(self, recent: I32, size: int) -> F32:
        """(size,) for a reader who had `recent`, oldest first."""
        ...

    def walked(self, scores: F32) -> F32:
        """Where a second step leads, from one-step scores."""
        ...

    def bytes_used(self) -> int:
        """Bytes of the counts."""
        ...


class Companions:
    """All of them over items by number. Not thread-safe."""

    def __init__(
        self,
        readers: NearestReaders,
        ring: int,
        pairs: Callable[[PairSettings], Counts] = Pairs,
        ridge: Ridge | None = None,
    ) -> None:
        """`ring` bounds the distinct items of a reader that are looked at."""
        self._ring = ring
        self._pairs = {name: pairs(how) for name, how in PAIRS.items()}
        self._together = pairs(TOGETHER)
        self._readers, self._ridge = readers, ridge
        self._trends = [Trends(64, half_life) for half_life in HALF_LIVES_EVENTS]

    def learn(self, past: Past, item: int, at_ms: int) -> None:
        """A reader with this past came to `item`."""
        history = past.items
        for pairs in self._pairs.values():
            pairs.learn(history, item)
        self._together.learn(_since(past, at_ms), item)
        before = latest(history, self._ring)
        self._readers.change(past.reader, with_value(before, item, 1.0, self._ring), item)
        for trends in self._trends:
            trends.learn(len(history), item)
        if self._ridge is not None and item not in history:
            self._ridge.learn(np.unique(history), item)

    def scores(self, past: Past, size: int) -> dict[str, F32 | F64]:
        """(size,) of each of NAMES, in their order, for a reader with this past, at the time of its newest event."""
        history = past.items
        distinct = latest(history, self._ring).items
        fading = of(distinct, np.power(_FADE, np.arange(len(distinct), dtype=np.float64)[::-1]))
        readers, alongside = self._readers.alongside(fading, size, reader=past.reader)
        pairs = {name: one.scores(history, size) for name, one in self._pairs.items()}
        together = self._together.scores(_since(past, past.at_ms), size)
        lines = (
            *pairs.values(), together, self._together.walked(together), self._pairs["steps"].walked(pairs["steps"]),
            readers, alongside, self._foretold(distinct, size),
            *(trends.recent(size) for trends in self._trends), self._trends[1].at_place(len(history), size),
        )  # fmt: skip
        return dict(zip(NAMES, lines, strict=True))

    def forget(self, reader: int) -> None:
        """A reader who left: the profile goes, counts that name nobody stay."""
        self._readers.forget(reader)

    def bytes_used(self) -> int:
        """Of arrays."""
        pairs = sum(one.bytes_used() for one in (*self._pairs.values(), self._together))
        ridge = 0 if self._ridge is None else self._ridge.bytes_used()
        trends = sum(one.bytes_used() for one in self._trends)
        return pairs + ridge + trends + self._readers.bytes_used()

    def _foretold(self, distinct: I32, size: int) -> F32:
        if self._ridge is None:
            return np.zeros(size, np.float32)
        newest_first = distinct[::-1][:_RIDGE_WINDOW]
        weights = _RIDGE_FADE ** np.arange(len(newest_first), dtype=np.float32)
        return self._ridge.scores(newest_first, weights, size)


def _since(past: Past, at_ms: int) -> I32:
    """The reader's latest items of that second, among those that `together` looks at."""
    window = TOGETHER.window
    recent = past.times_ms[-window:] > at_ms - _SAME_MS
    found: I32 = past.items[-window:][recent]
    return found
