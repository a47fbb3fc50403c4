"""The row `list`: what a worker would publish, with all stages of `models.taste.pipeline`, instead of the scores alone.

A list is K items; behind them stand the others in the order of the blend, so that every event has a rank. What the
protocol takes out is excluded from the list before it is made, as a worker does with what its ring remembers. Of a
catalogue authors and topics are known from the start; an item is listed once it has come up, as in the other rows.

With `blend` on a list is made for every event of a reader with a history, and its weights learn from what came, as a
worker's do; readers' own states then wait until then (`_follow_before`).
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from models.evaluate.recording import Event, Moment
from models.evaluate.served import Served, ServedSettings
from models.taste.calibrated import Calibrated, Watch
from models.taste.catalogue import Catalogue, Entry
from models.taste.explore import draws
from models.taste.filters import Wishes
from models.taste.knowledge import Past
from models.taste.ordering import Ordering, OrderSettings
from models.taste.pipeline import ListSettings, Made, Requests, lists
from models.taste.rank import layer_scores

F32 = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ListedSettings:
    """How lists are made; the ranking itself is that of the other rows."""

    stages: ListSettings = field(default_factory=ListSettings)
    size: int = 20
    entries: Mapping[str, Entry] = field(default_factory=dict)  # what a catalogue says of items


class Listed(Served):
    """Readers, transitions and item table as in `Served`; the list as in a worker."""

    rows = ("list",)

    def __init__(self, item_names: Sequence[str], settings: ServedSettings, listed: ListedSettings) -> None:
        super().__init__(item_names, settings)
        self._how = replace(listed.stages, rank=settings.rank)
        self._size = listed.size
        self._catalogue = Catalogue(self._index)
        known = [name for name in item_names if name in listed.entries]
        self._catalogue.apply(known, [replace(listed.entries[name], published_ms=0) for name in known])
        self._made = 0
        self._learns = listed.stages.blend or listed.stages.order
        self._weights, self._watch = Calibrated(), Watch(1)
        self._ordering = (
            Ordering(OrderSettings(own_first=listed.stages.own_first)) if listed.stages.order else None
        )
        self._waiting: deque[Event] = deque()  # followed, and not yet in readers' own states
        self._newest: tuple[int, int] | None = (
            None  # user and history's length of the list that is remembered
        )

    def scores(self, moment: Moment) -> F32:
        self._follow_before(None)
        row = self._users.rows_of([str(moment.user)])
        parts, listable = layer_scores(self._table, self._users, row, moment.at_ms, self._settings.rank)
        scores = parts.sum(axis=0)
        scores[:, ~listable] = -np.inf
        found = self._list(moment, listable).lists.items[0]
        found = found[found >= 0]
        top = float(scores.max(initial=-np.inf))
        base = top if np.isfinite(top) else 0.0
        scores[0, found] = base + (1 + abs(base)) * np.arange(len(found), 0, -1, dtype=np.float32)
        row_of: F32 = scores[:, 1:]
        return row_of

    def follow(self, events: Sequence[Event]) -> None:
        if self._learns:
            self._waiting += events
        else:
            super().follow(events)

    def learn(self, events: Sequence[Event]) -> None:
        if not self._learns:
            super().learn(events)
            return
        for event in events:
            if event.positive and len(event.moment.history):
                self._choose(event)
            self._follow_before(event.number + 1)
            super().learn([event])
            if event.positive and self._ordering is not None:
                self._ordering.known.learn(self._past(event.moment), event.item + 1, event.moment.at_ms)

    def _past(self, moment: Moment) -> Past:
        """What a ring holds of a history."""
        ring = self._settings.ring
        (row,) = self._users.rows_of([str(moment.user)]).tolist()
        return Past(row, moment.history[-ring:] + 1, moment.times_ms[-ring:])

    def _choose(self, event: Event) -> None:
        """The weights learn from the list that the reader had before the event; there is none where the reader's own
        state has moved on (a stale item side is being measured)."""
        moment = event.moment
        if self._newest != (moment.user, len(moment.history)):
            if not self._waiting or self._waiting[0].number > event.number:
                return
            self._follow_before(event.number)
            row = self._users.rows_of([str(moment.user)])
            _, listable = layer_scores(self._table, self._users, row, moment.at_ms, self._settings.rank)
            self._list(moment, listable)
        (row_of,) = self._users.rows_of([str(moment.user)]).tolist()
        self._watch.chose(row_of, event.item + 1)
        self._newest = None

    def _follow_before(self, number: int | None) -> None:
        """Bring readers' own states up to an event, or to all there are."""
        due = []
        while self._waiting and (number is None or self._waiting[0].number < number):
            due.append(self._waiting.popleft())
        if due:
            super().follow(due)

    def _list(self, moment: Moment, listable: Bools) -> Made:
        row = self._users.rows_of([str(moment.user)])
        barred = np.flatnonzero(~listable)
        if not self._how.rank.repeat:
            barred = np.concatenate([barred, np.unique(moment.history) + 1])
        excluded = np.stack([np.zeros(len(barred), np.int64), barred], axis=1)
        self._made += 1
        numbers = draws(np.zeros(1, np.int32), np.array([self._made]))
        made = lists(
            self._table,
            self._catalogue,
            self._users,
            Requests(row, numbers, wishes=Wishes(excluded=excluded)),
            moment.at_ms,
            self._size,
            self._how,
            learnt=self._weights,
            ordering=self._ordering,
        )
        for one in made.candidates:
            self._watch.show(one, [0])
        self._newest = (moment.user, len(moment.history))
        return made
