"""The row `list`: what a worker would publish, with all stages of `models.taste.lists.pipeline`, instead of the scores
alone.

A list is K items; behind them stand the others in the order of a list of all items, so that every event has a rank:
that is the worker's list, too, but for what chooses other items than the best (diversity, exploration, an author's
limit). What the protocol takes out is excluded from a list before it is made, as a worker does with what its ring
remembers. Of a catalogue authors and topics are known from the start; an item is listed once it has come up, as in the
other rows.

Where the list is made diverse, `list-plain` is the same one without that, of the same learnt weights.

With `blend` or `order` on a list is made after every event, as a worker makes them, and what they weigh is learnt from
the reader's next choice; readers' own states then wait until it is learnt (`_follow_before`). Where they have moved on
before that (a stale item side is being measured), nothing is learnt of weights.

With `asked` it is made at the moment of the choice instead, as for a page that says when it is opened: the order then
knows how long ago the last choice was.

A sequence model is a source of the list: one that is given, and with `Training` each that is trained on the way, which
is taken into use at once, as a worker takes a new revision.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.evaluate.recording import Event, Moment
from models.evaluate.served import Served, ServedSettings
from models.sequence.folder import Loaded
from models.sequence.source import Newest
from models.taste.items.catalogue import Catalogue, Entry
from models.taste.learnt.calibrated import Calibrated, Watch
from models.taste.lists.explore import draws
from models.taste.lists.filters import Wishes
from models.taste.lists.ordering import Ordering, OrderSettings
from models.taste.lists.pipeline import Made, lists
from models.taste.lists.request import ListSettings, Requests
from models.taste.readers.past import Past

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ListedSettings:
    """How lists are made; the ranking itself is that of the other rows."""

    stages: ListSettings = field(default_factory=ListSettings)
    size: int = 20
    asked: bool = False  # lists are made when readers come to choose, and not for their last choice
    entries: Mapping[str, Entry] = field(default_factory=dict)  # what a catalogue says of items


class Training(Protocol):
    """Sequence models that are trained on the way."""

    def after(self, event: Event) -> Loaded | None:
        """A model, if one is due behind this event."""
        ...


class Listed(Served):
    """Readers, transitions and item table as in `Served`; the list as in a worker."""

    rows: tuple[str, ...] = ("list", "list-plain")

    def __init__(
        self,
        item_names: Sequence[str],
        settings: ServedSettings,
        listed: ListedSettings,
        sequence: Loaded | None = None,
        training: Training | None = None,
    ) -> None:
        """`sequence` is what serves before anything is trained on the way."""
        super().__init__(item_names, settings)
        # as in a worker, own items that lead may come again
        again = settings.rank.repeat or listed.stages.rank.repeat
        self._how = replace(listed.stages, rank=replace(settings.rank, repeat=again))
        self._plain = replace(self._how, diversity="none")
        if self._how == self._plain:
            self.rows = Listed.rows[:1]
        self._behind = replace(self._plain, explore_below=0, author_most=0)
        self._size, stages = listed.size, listed.stages
        self._catalogue = Catalogue(self._index)
        known = [name for name in item_names if name in listed.entries]
        self._catalogue.apply(known, [replace(listed.entries[name], published_ms=0) for name in known])
        self._made = 0
        self._asked = listed.asked and stages.order
        self._learns = stages.blend or stages.order
        self._weights, self._watch = Calibrated(), Watch()
        self._ordering = Ordering(OrderSettings(own_first=stages.own_first)) if stages.order else None
        self._waiting: deque[Event] = deque()  # followed, and not yet in readers' own states
        self._learnt = 0  # events
        self._newest: tuple[tuple[int, int, int, int], Made] | None = None
        self._training = training
        self._sequence = Newest(self._users, settings.sequence_weight)
        if sequence is not None:
            self._sequence.use(sequence)

    def scores(self, moment: Moment) -> F32:
        self._follow_before(None)
        made = [self._list(moment)]
        if len(self.rows) > 1:
            made.append(self._fresh(moment, self._plain, self._size))
        every = self._fresh(moment, self._behind, len(self._index)).lists
        scores = np.full(len(self._index), -np.inf, np.float32)
        listed = every.items[0] >= 0
        scores[every.items[0, listed]] = every.scores[0, listed]
        return np.stack([_leading(scores, one.lists.items[0]) for one in made])[:, 1:]

    def follow(self, events: Sequence[Event]) -> None:
        if self._learns:
            self._waiting += events
        else:
            super().follow(events)

    def learn(self, events: Sequence[Event]) -> None:
        if self._training is None:
            self._learn(events)
            return
        for event in events:  # a training falls behind the same event however events are handed in
            self._learn([event])
            loaded = self._training.after(event)
            if loaded is not None:
                self._newest = None  # it was the old model's
                self._sequence.use(loaded)

    def _learn(self, events: Sequence[Event]) -> None:
        if not self._learns:
            super().learn(events)
            return
        for event in events:
            if self._asked:
                self._ask(event)
            due = bool(self._waiting) and self._waiting[0].number <= event.number
            self._follow_before(event.number + 1)
            (row,) = self._users.rows_of([str(event.moment.user)]).tolist()
            if due and event.positive and self._watch.waiting(np.array([row], np.int32))[0]:
                self._watch.chose(row, event.item + 1)
            super().learn([event])
            if event.positive and self._ordering is not None:
                ring, before = self._settings.ring, event.moment
                past = Past(row, before.history[-ring:] + 1, before.times_ms[-ring:])
                known = self._ordering.known
                known.learn(past, event.item + 1, before.at_ms)
                unsolved = known.unsolved()
                if unsolved is not None:
                    known.use(unsolved.solved())
            self._learnt += 1
            if due and not self._asked:
                self._publish(event)

    def _ask(self, event: Event) -> None:
        """The list that is made when a reader comes to choose, and which that choice is learnt from."""
        if self._waiting and self._waiting[0].number <= event.number and len(event.moment.history):
            self._follow_before(event.number)
            for one in self._list(event.moment).candidates:
                self._watch.show(one, [0])

    def _publish(self, event: Event) -> None:
        """The list that a worker makes for an event, which its reader's next choice is learnt from."""
        before = event.moment
        history, times = before.history, before.times_ms
        if event.positive:
            history, times = np.append(history, np.int32(event.item)), np.append(times, before.at_ms)
        for one in self._list(Moment(before.user, before.at_ms, history, times)).candidates:
            self._watch.show(one, [0])

    def _follow_before(self, number: int | None) -> None:
        """Bring readers' own states up to an event, or to all there are."""
        due = []
        while self._waiting and (number is None or self._waiting[0].number < number):
            due.append(self._waiting.popleft())
        if due:
            super().follow(due)

    def _list(self, moment: Moment) -> Made:
        """Kept until something is learnt; where nothing decays, whatever the time."""
        at_ms = moment.at_ms if self._asked or np.isfinite(self._settings.item_half_life_s) else 0
        key = (moment.user, at_ms, len(moment.history), self._learnt)
        if self._newest is None or self._newest[0] != key:
            self._made += 1
            self._newest = (key, self._fresh(moment, self._how, self._size))
        return self._newest[1]

    def _fresh(self, moment: Moment, how: ListSettings, size: int) -> Made:
        """A list of so many items."""
        row = self._users.rows_of([str(moment.user)])
        self._table.cover()
        unknown = np.zeros(len(self._index), np.bool_)
        unknown[self._table.prepared(moment.at_ms, how.rank.popularity_power).barred] = True
        if not how.rank.repeat:
            unknown[moment.history + 1] = True
        barred = np.flatnonzero(unknown)
        excluded = np.stack([np.zeros(len(barred), np.int64), barred], axis=1)
        numbers = draws(np.zeros(1, np.int32), np.array([self._made]))
        asked = np.array([moment.at_ms]) if self._asked else None
        return lists(
            self._table,
            self._catalogue,
            self._users,
            Requests(row, numbers, None, Wishes(excluded=excluded), asked),
            moment.at_ms,
            size,
            how,
            further=self._sequence.further,
            learnt=self._weights,
            ordering=self._ordering,
        )


def _leading(scores: F32, listed: I32) -> F32:
    """Scores (I,) with the items of a list, -1 padded, on top."""
    found, listed = scores.copy(), listed[listed >= 0]
    top = float(scores.max(initial=-np.inf))
    base = top if np.isfinite(top) else 0.0
    found[listed] = base + (1 + abs(base)) * np.arange(len(listed), 0, -1, dtype=np.float32)
    return found
