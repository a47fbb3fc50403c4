"""The calibrated blend as rows of the table: the served parts and further ones, weighed by what readers chose so far.

Rows: `walk` (a second step along the counts), some of `models.taste.learnt.companions`, and of all these with counts,
taste and popularity `blend-online`. What a part weighs differs by how much the reader has had and how long ago. Where a
reader's own items may be right, the places of these are features like others: how often one comes back to the last, the
one before, ... is learnt with the rest. `own-online` lists them first in any case. Of a catalogue topics and years are
parts as well (`models.evaluate.about`).
"""

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.evaluate.about import NAMES as ABOUT
from models.evaluate.about import About
from models.evaluate.densepairs import MAX_ITEMS as DENSE_ITEMS
from models.evaluate.densepairs import DensePairs
from models.evaluate.layer import Layer
from models.evaluate.recording import Event, Moment
from models.evaluate.served import Served, ServedSettings
from models.taste.alike.nearest import NearestReaders
from models.taste.learnt.blend import FORMS, Blend, spread
from models.taste.learnt.companions import Companions
from models.taste.learnt.pairs import Pairs
from models.taste.learnt.ridge import MAX_ITEMS as RIDGE_ITEMS
from models.taste.learnt.ridge import Ridge
from models.taste.learnt.situations import SITUATIONS, situations
from models.taste.readers.past import Past

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
Bools = NDArray[np.bool_]

PARTS = (
    "counts", "taste", "popularity", "walk", "steps", "wide", "nearest", "alongside", "ridge", "follows", "beside",
    "together", "together-walk", "steps-walk", "now-50", "now", "now-2000", "place",
)  # fmt: skip
_FURTHER = [
    "readers" if name == "nearest" else name for name in PARTS[4:]
]  # by their names in `models.taste.learnt.companions`
START = {"counts": 1.0, "popularity": 0.1}  # weights of the first form before anything is learnt
OWN = 8  # features of a reader's own items
ALONE = ("walk", "steps", "wide", "nearest", "alongside", "ridge")  # parts with a row of their own
RATE = 0.15


class Blended(Layer):
    """Learns from every choice with what was known before it; the first events weigh by `START`."""

    rows: tuple[str, ...] = (*ALONE, "blend-online", "own-online")

    def __init__(
        self, item_names: Sequence[str], settings: ServedSettings, repeats: bool, about: About | None = None
    ) -> None:
        """`repeats`: a reader's own items may be chosen again. `about`: what a catalogue says of the items."""
        self._items, self._repeats, self._about = len(item_names), repeats, about
        self._served = Served(item_names, settings)
        self._companions = companions_of(self._items, settings.ring, settings.nearest)
        start = np.zeros((len(PARTS), FORMS))
        for name, weight in START.items():
            start[PARTS.index(name), 0] = weight
        further = (OWN if repeats else 0) + (FORMS * len(ABOUT) if about else 0)
        self._begin(np.append(start.reshape(-1), np.zeros(further)))
        self._waiting: deque[Event] = deque()  # followed, and not yet in readers' own states
        self._learnt = 0  # events
        self._last: tuple[tuple[int, int, int, int], tuple[F32, F32, Bools]] | None = None

    def _begin(self, weights: NDArray[np.float64]) -> None:
        self._blend = Blend(weights, RATE, SITUATIONS)

    def scores(self, moment: Moment) -> F32:
        self._follow_before(None)
        parts, features, listable = self._at(moment)
        alone = len(ALONE)
        found = np.empty((len(Blended.rows), self._items), np.float32)
        found[:alone] = parts[[PARTS.index(name) for name in ALONE]]
        found[:alone][found[:alone] <= 0] = -np.inf
        found[alone] = self._blend.scores(features, situations_of(moment))
        found[:, ~listable] = -np.inf
        found[alone + 1] = own_first(found[alone], moment.history)
        return found

    def follow(self, events: Sequence[Event]) -> None:
        """Kept until somebody is asked or the event is learnt: it must not be in what is learnt from it."""
        self._waiting += events

    def learn(self, events: Sequence[Event]) -> None:
        """One after the other: each choice is weighed with the counts before it. One that comes later than its reader's
        own state (a stale item side is being measured) leaves the weights as they are."""
        for event in events:
            if event.positive and len(event.moment.history):
                self._choose(event)
            self._follow_before(event.number + 1)
            if event.positive:
                self._companions.learn(past_of(event.moment), event.item, event.moment.at_ms)
            self._served.learn([event])
            self._learnt += 1

    def _choose(self, event: Event) -> None:
        moment = event.moment
        if not self._is_before(event):
            return
        _, features, listable = self._at(moment)
        possible = listable.copy()
        if not self._repeats:
            possible[moment.history] = False
        self._blend.learn(features, event.item, possible, situations_of(moment))

    def _is_before(self, event: Event) -> bool:
        """Bring readers' own states up to an event. False if its reader's is past it already."""
        if self._last is None or self._last[0] != self._key(event.moment):
            if not self._waiting or self._waiting[0].number > event.number:
                return False
            self._follow_before(event.number)
        return True

    def _follow_before(self, number: int | None) -> None:
        """Bring readers' own states up to an event, or to all there are."""
        due = []
        while self._waiting and (number is None or self._waiting[0].number < number):
            due.append(self._waiting.popleft())
        if due:
            self._served.follow(due)

    def _at(self, moment: Moment) -> tuple[F32, F32, Bools]:
        """Parts (P, I), features (F, I) and listable items (I,) of a moment; kept until something is learnt."""
        key = self._key(moment)
        if self._last is None or self._last[0] != key:
            self._last = (key, self._fresh(moment))
        return self._last[1]

    def _key(self, moment: Moment) -> tuple[int, int, int, int]:
        return moment.user, moment.at_ms, len(moment.history), self._learnt

    def _fresh(self, moment: Moment) -> tuple[F32, F32, Bools]:
        history, size = moment.history, self._items
        served, listable = self._served.parts(moment)
        walk = self._served.second_step(served[0], moment.at_ms)
        further = self._companions.scores(past_of(moment), size)
        parts = np.concatenate(
            [served, walk[None], *(further[name][None] for name in _FURTHER)], dtype=np.float32
        )
        features = spread(parts)
        if self._repeats:
            features = np.concatenate([features, own_places(history, size)])
        if self._about is not None:
            features = np.concatenate([features, spread(self._about.scores(history))])
        return parts, features, listable


def companions_of(items: int, ring: int, nearest: int) -> Companions:
    """Over a catalogue that is known beforehand: pairs as whole matrices where it is small."""
    dense = items <= DENSE_ITEMS
    return Companions(
        NearestReaders(ring, nearest, max_items=max(items, 1)),
        ring,
        lambda how: DensePairs(how, items) if dense else Pairs(how, items),
        Ridge(items) if items <= RIDGE_ITEMS else None,
    )


def past_of(moment: Moment) -> Past:
    """The reader of a moment, with all that was had."""
    return Past(moment.user, moment.history, moment.times_ms)


def situations_of(moment: Moment) -> tuple[int, ...]:
    """Of whoever is about to choose; none for a newcomer, of whom nothing is known."""
    if not len(moment.history):
        return ()
    return situations(len(moment.history), (moment.at_ms - int(moment.times_ms[-1])) / 1000)


def own_places(history: I32, size: int) -> F32:
    """(OWN, I): whether an item is the reader's last, the distinct one before, ... the fifth, an older one; how often
    it was had beyond once; whether it was had twice running just now."""
    found = np.zeros((OWN, size), np.float32)
    newest_first = history[::-1]
    distinct, first, times = np.unique(newest_first, return_index=True, return_counts=True)
    order = np.argsort(first)
    found[np.minimum(np.arange(len(order)), OWN - 3), distinct[order]] = 1
    found[OWN - 2, distinct] = np.log1p(times - 1)
    if len(history) > 1 and history[-1] == history[-2]:
        found[OWN - 1, history[-1]] = 1
    return found


def own_first(scores: F32, history: I32) -> F32:
    """Scores (I,) with the items of a history on top, the latest first."""
    found = scores.copy()
    top = float(found.max(initial=-np.inf))
    base = top if np.isfinite(top) else 0.0
    found[history] = base + (1 + abs(base)) * np.arange(1, len(history) + 1, dtype=np.float32)
    return found
