"""Parts of the calibrated blend beside those that are served today: what else is known of a reader and the items.

    steps, wide       pairs over the last three items both ways, and over the last 50 (`models.taste.pairs`)
    follows, beside   what came directly after the last item; what stood directly beside it
    steps-walk        a second step along the pairs of `steps`
    together          what was chosen in the same second as the reader's latest items: one page sent at once; with
    together-walk     a second step
    nearest           readers alike (`models.taste.nearest`), their latest items counting most
    alongside         the same readers, what lies beside the shared items counting most
    ridge             what foretells an item, all others given (`models.taste.ridge`), in small catalogues
    now-50, now, ...  what is chosen, with half-lives of 50, 700 and 2,000 events
    place             what readers chose after about as many events

They learn from choices alone, one by one, and know no more than what came before. NumPy alone.
"""

import numpy as np
from numpy.typing import NDArray

from models.evaluate.densepairs import MAX_ITEMS as DENSE_ITEMS
from models.evaluate.densepairs import DensePairs
from models.evaluate.recording import Event, Moment
from models.taste.nearest import NearestReaders
from models.taste.pairs import LAST_STEPS, WIDE, Pairs, PairSettings
from models.taste.ridge import MAX_ITEMS, Ridge
from models.taste.trends import Trends
from models.taste.usercf import latest, of, with_value

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

NAMES = (
    "steps", "wide", "nearest", "alongside", "ridge", "follows", "beside", "together", "together-walk", "steps-walk",
    "now-50", "now", "now-2000", "place",
)  # fmt: skip

FOLLOWS = PairSettings(window=1, symmetry=0.0, popularity_power=0.2)
BESIDE = PairSettings(window=1, symmetry=1.0, popularity_power=0.2)
PAIRS = {"steps": LAST_STEPS, "wide": WIDE, "follows": FOLLOWS, "beside": BESIDE}
TOGETHER = PairSettings(window=40, discount=1.0, order_decay=1.0, symmetry=1.0)
_SAME_MS = 1000
_FADE = 0.95  # of a reader's items when looking for the like, from one to the one before
_RIDGE_FADE, _RIDGE_WINDOW = np.float32(0.9), 60
_HALF_LIVES = (50.0, 700.0, 2000.0)


class Further:
    """All of them over one catalogue of I items."""

    def __init__(self, items: int, ring: int, nearest: int) -> None:
        self._items, self._ring = items, ring
        kind = DensePairs if items <= DENSE_ITEMS else Pairs
        self._pairs = {name: kind(how, items) for name, how in PAIRS.items()}
        self._together = kind(TOGETHER, items)
        self._readers = NearestReaders(ring, nearest, max_items=max(items, 1))
        self._ridge = Ridge(items) if items <= MAX_ITEMS else None
        self._trends = [Trends(items, half_life) for half_life in _HALF_LIVES]

    def learn(self, event: Event) -> None:
        """A choice, with its reader just before it."""
        moment, item = event.moment, event.item
        history = moment.history
        for pairs in self._pairs.values():
            pairs.learn(history, item)
        self._together.learn(_since(moment, moment.at_ms), item)
        before = latest(history, self._ring)
        self._readers.change(moment.user, with_value(before, item, 1.0, self._ring), item)
        for trends in self._trends:
            trends.learn(len(history), item)
        if self._ridge is not None and item not in history:
            self._ridge.learn(np.unique(history), item)

    def scores(self, moment: Moment) -> F32:
        """(len(NAMES), I)."""
        history, size = moment.history, self._items
        distinct = latest(history, self._ring).items
        fading = of(distinct, np.power(_FADE, np.arange(len(distinct), dtype=np.float64)[::-1]))
        nearest, alongside = self._readers.alongside(fading, size, reader=moment.user)
        last_ms = int(moment.times_ms[-1]) if len(history) else 0
        pairs = {name: one.scores(history, size) for name, one in self._pairs.items()}
        together = self._together.scores(_since(moment, last_ms), size)
        found = {
            **pairs,
            "nearest": nearest,
            "alongside": alongside,
            "ridge": self._foretold(distinct),
            "together": together,
            "together-walk": self._together.walked(together),
            "steps-walk": self._pairs["steps"].walked(pairs["steps"]),
            "now-50": self._trends[0].recent(size),
            "now": self._trends[1].recent(size),
            "now-2000": self._trends[2].recent(size),
            "place": self._trends[1].at_place(len(history), size),
        }
        return np.stack([found[name] for name in NAMES], dtype=np.float32, casting="same_kind")

    def _foretold(self, distinct: I32) -> F32:
        if self._ridge is None:
            return np.zeros(self._items, np.float32)
        newest_first = distinct[::-1][:_RIDGE_WINDOW]
        return self._ridge.scores(newest_first, _RIDGE_FADE ** np.arange(len(newest_first), dtype=np.float32))


def _since(moment: Moment, at_ms: int) -> I32:
    """The reader's latest items of that second, among those that `together` looks at."""
    window = TOGETHER.window
    recent = moment.times_ms[-window:] > at_ms - _SAME_MS
    found: I32 = moment.history[-window:][recent]
    return found
