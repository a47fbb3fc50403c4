"""What readers' choices say beside the item table, one part a line. NumPy alone.

    steps, wide       pairs over the last three items both ways, and over the last 50 (`models.taste.pairs`)
    follows, beside   what came directly after the last item; what stood directly beside it
    together          what was chosen in the same second as the reader's latest items; `-walk`: a second step
    readers           readers alike (`models.taste.nearest`), their latest items counting most
    alongside         the same readers, what lies beside the shared items counting most
    next, ... pair    what directly followed the last item, the one before, both (`models.taste.contexts`)
    alike, ... after  visits like this one (`models.taste.visits`)
    now-50, ... days  what is chosen now, by half-lives in events and in time; `place`: after about as many events

It learns from choices alone, one by one, and is bounded: pairs an item, readers, visits, contexts. It belongs to
whoever holds it: no part of a reader's state, and no function of the item table.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.taste import actions
from models.taste.contexts import NAMES as CONTEXTS
from models.taste.contexts import Contexts
from models.taste.nearest import NearestReaders
from models.taste.pairs import LAST_STEPS, WIDE, Pairs, PairSettings
from models.taste.trends import Trends
from models.taste.usercf import latest, of, with_value
from models.taste.users import UserRows
from models.taste.visits import Visits

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

FOLLOWS = PairSettings(window=1, symmetry=0.0, popularity_power=0.2)
BESIDE = PairSettings(window=1, symmetry=1.0, popularity_power=0.2)
PAIRS = {"steps": LAST_STEPS, "wide": WIDE, "follows": FOLLOWS, "beside": BESIDE}
TOGETHER = PairSettings(window=40, discount=1.0, order_decay=1.0, symmetry=1.0)
HALF_LIVES_EVENTS = (50.0, 700.0, 2000.0)
HALF_LIVES_S = (600.0, 3 * 3600.0, 86_400.0)
NAMES = (
    *PAIRS, "together", "together-walk", "steps-walk", "readers", "alongside", *CONTEXTS, "alike", "fresh", "after",
    "now-50", "now", "now-2000", "place", "minutes", "hours", "days",
)  # fmt: skip
OF_ITEM = ("new", "quiet", "common")
MAX_ITEMS = 65_536  # of which something is learnt
_NEAREST = 50
_FADE = 0.95  # of a reader's items when looking for the like, from one to the one before
_SAME_MS = 1000


@dataclass(frozen=True, slots=True)
class Past:
    """A reader by number, and the positive events that are remembered."""

    reader: int
    items: I32  # oldest first; repeats stay
    times_ms: I64

    @property
    def at_ms(self) -> int:
        """Of the newest event; 0 where there is none."""
        return int(self.times_ms[-1]) if len(self.times_ms) else 0


def pasts_of(users: UserRows, rows: I32, anonymous: Bools | None = None) -> list[Past]:
    """Of readers by row (B,), from their rings; nothing of those who are `anonymous` (B,)."""
    items, kinds, at_ms = users.recent(rows, users.ring)
    items, kinds, at_ms = items[:, ::-1], kinds[:, ::-1], at_ms[:, ::-1]
    kept = actions.is_positive(kinds) & (items > 0)
    if anonymous is not None:
        kept[anonymous] = False
    return [Past(row, items[nth, kept[nth]], at_ms[nth, kept[nth]]) for nth, row in enumerate(rows.tolist())]


def came(
    users: UserRows, rows: I32, items: I32, kinds: I8, at_ms: I64, applied: Bools
) -> Iterator[tuple[Past, int, int]]:
    """Of n events in their order that were just folded, those that say something: the reader's past before, the item,
    its time. Who takes something back among them is passed over: the ring does not tell what was when."""
    good = applied & actions.is_positive(kinds) & (items > 0)
    undoes = np.unique(rows[applied & (kinds == actions.UNDO)])
    places = np.flatnonzero(good & ~np.isin(rows, undoes))
    if not len(places):
        return
    distinct, back, counts = np.unique(rows[places], return_inverse=True, return_counts=True)
    pasts, left = pasts_of(users, distinct), counts.tolist()
    for place, reader in zip(places.tolist(), back.tolist(), strict=True):
        past, stop = pasts[reader], max(len(pasts[reader].items) - left[reader], 0)
        left[reader] -= 1
        yield Past(past.reader, past.items[:stop], past.times_ms[:stop]), int(items[place]), int(at_ms[place])


class Knowledge:
    """Everything above over a catalogue that grows, of item indices below MAX_ITEMS. Not thread-safe."""

    def __init__(self, ring: int = 64, max_readers: int = 100_000) -> None:
        self._ring = ring
        self._pairs = {name: Pairs(how) for name, how in PAIRS.items()}
        self._together = Pairs(TOGETHER)
        self._readers = NearestReaders(ring, _NEAREST, max_readers=max_readers, max_items=MAX_ITEMS)
        self._contexts = Contexts(MAX_ITEMS)
        self._visits = Visits(MAX_ITEMS, max_readers)
        self._trends = [Trends(64, half_life) for half_life in HALF_LIVES_EVENTS]
        self._lately: F64 = np.zeros((len(HALF_LIVES_S), 64))
        self._lately_ms = 0
        self._first_ms: I64 = np.full(64, -1, np.int64)
        self._last_ms: I64 = np.zeros(64, np.int64)
        self._times: I64 = np.zeros(64, np.int64)

    def learn(self, past: Past, item: int, at_ms: int) -> None:
        """A reader with this past came to `item`."""
        if not 0 < item < MAX_ITEMS:
            return
        self._reserve(item + 1)
        history = past.items[past.items < MAX_ITEMS]
        for pairs in self._pairs.values():
            pairs.learn(history, item)
        self._together.learn(_since(past, at_ms), item)
        before = latest(history, self._ring)
        self._readers.change(past.reader, with_value(before, item, 1.0, self._ring), item)
        for trends in self._trends:
            trends.learn(len(history), item)
        self._contexts.learn(history, item)
        self._visits.learn(past.reader, item, at_ms)
        gone_s = max(at_ms - self._lately_ms, 0) / 1000
        self._lately *= np.exp2(-gone_s / np.array(HALF_LIVES_S))[:, None]
        self._lately[:, item] += 1
        self._lately_ms = max(at_ms, self._lately_ms)
        self._times[item] += 1
        self._first_ms[item] = at_ms if self._first_ms[item] < 0 else self._first_ms[item]
        self._last_ms[item] = at_ms

    def scores(self, past: Past, size: int) -> F32:
        """(len(NAMES), size) for a reader with this past, at the time of its newest event."""
        self._reserve(size)
        history = past.items[past.items < MAX_ITEMS]
        distinct = latest(history, self._ring).items
        fading = of(distinct, np.power(_FADE, np.arange(len(distinct), dtype=np.float64)[::-1]))
        readers, alongside = self._readers.alongside(fading, size, reader=past.reader)
        pairs = {name: one.scores(history, size) for name, one in self._pairs.items()}
        together = self._together.scores(_since(past, past.at_ms), size)
        visits = self._visits.scores(history, past.at_ms, size, past.reader)
        visits[:2] /= (1 + self._times[:size]) ** np.float32(0.2)
        at_ms = max(past.at_ms, self._lately_ms)
        decay = np.exp2(-(at_ms - self._lately_ms) / 1000 / np.array(HALF_LIVES_S))
        lately = self._lately[:, :size] * decay[:, None]
        found = np.empty((len(NAMES), size), np.float32)
        lines = (
            *pairs.values(), together, self._together.walked(together), self._pairs["steps"].walked(pairs["steps"]),
            readers, alongside, *self._contexts.scores(history, size), *visits,
            *(trends.recent(size) for trends in self._trends), self._trends[1].at_place(len(history), size), *lately,
        )  # fmt: skip
        for nth, line in enumerate(lines):
            found[nth] = line
        return found

    def of_items(self, items: I64, at_ms: int) -> F32:
        """(N, len(OF_ITEM)) how new, how quiet and how common items (N,) below the last size asked for are."""
        found = np.zeros((len(items), len(OF_ITEM)), np.float32)
        known = self._first_ms[items] >= 0
        found[:, 0] = np.log1p(np.maximum(at_ms - self._first_ms[items], 0) / 1000) / 15 * known
        found[:, 1] = np.log1p(np.maximum(at_ms - self._last_ms[items], 0) / 1000) / 15 * known
        found[:, 2] = np.log1p(self._times[items]) / 8
        return found

    def forget(self, rows: Sequence[int]) -> None:
        """Readers who left, by row: their visits and profiles go; counts that name nobody stay."""
        for row in rows:
            self._readers.forget(row)
            self._visits.forget(row)

    def bytes_used(self) -> int:
        """About: arrays, and what Python holds for counted contexts."""
        pairs = sum(one.bytes_used() for one in (*self._pairs.values(), self._together))
        clocks = self._lately.nbytes + self._first_ms.nbytes + self._last_ms.nbytes + self._times.nbytes
        others = self._readers.bytes_used() + self._visits.bytes_used() + self._contexts.bytes_used()
        return pairs + clocks + others + sum(trends.bytes_used() for trends in self._trends)

    def _reserve(self, items: int) -> None:
        size = len(self._times)
        if items <= size:
            return
        more = max(items, 2 * size) - size
        self._lately = np.concatenate([self._lately, np.zeros((len(HALF_LIVES_S), more))], axis=1)
        self._first_ms = np.append(self._first_ms, np.full(more, -1, np.int64))
        self._last_ms = np.append(self._last_ms, np.zeros(more, np.int64))
        self._times = np.append(self._times, np.zeros(more, np.int64))


def _since(past: Past, at_ms: int) -> I32:
    """The reader's latest items of that second, among those that `together` looks at."""
    window = TOGETHER.window
    recent = past.times_ms[-window:] > at_ms - _SAME_MS
    found: I32 = past.items[-window:][recent]
    return found[found < MAX_ITEMS]
