"""Test then learn: every event is scored with what was known before it, and only then learnt. NumPy alone."""

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluate import meters
from models.evaluate.layer import Layer
from models.evaluate.protocols import Plan
from models.evaluate.ranks import Ties, ranks, usable
from models.evaluate.recording import Recording
from models.experiments.interleave import team_draft
from models.taste.best import top_k
from models.taste.lists.explore import draws

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_AT_ONCE = 4096  # events learnt in one call where nothing is asked in between
_CELLS = 1 << 19  # scores judged together: 2 MB

Progress = Callable[[int, int], None]
"""Called with events done and events in all."""


@dataclass(frozen=True, slots=True)
class Scored:
    """What R rows did on N scored events with a catalogue of I items."""

    rows: tuple[str, ...]
    numbers: I64  # (N,) of the events, in the order of scoring
    ranks: F64  # (R, N)
    exposures: I64  # (R, I) how often each item was listed
    distances: F64  # (R, N) intra-list distance, NaN where a list does not hold two items
    topic_distances: F64 | None = None  # (R, N) the same by topics
    points: I64 | None = (
        None  # (N, 2) whether the item that came was on the first or second row's team, interleaved
    )


class Run:
    """Layers on their way through one recording: `advance` learns alone, `score` goes on to the end."""

    def __init__(
        self,
        recording: Recording,
        plan: Plan,
        layers: Sequence[Layer],
        progress: Progress = lambda done, total: None,
    ) -> None:
        self._recording = recording
        self._plan = plan
        self._layers = layers
        self._progress = progress
        self._place = 0  # events before it are known to readers' own states
        self._due = 0  # ... and to what all readers share

    def copy(self) -> "Run":
        """The same state, to go on from in another way."""
        twin = Run(self._recording, self._plan, deepcopy(self._layers), self._progress)
        twin._place, twin._due = self._place, self._due
        return twin

    def advance(self, stop: int) -> None:
        """Learn all events before `stop`, without scoring."""
        for first in range(self._place, stop, _AT_ONCE):
            last = min(first + _AT_ONCE, stop)
            self._follow(last)
            self._learn(last)
            self._progress(last, len(self._recording))

    def score(self, judge: "Judge", delay_ms: int | None = 0) -> Scored:
        """Score what the plan asks, and learn on. `delay_ms`: an event reaches what readers share so long after it
        happened; 0 is at once, before the next event, and None never. Readers' own states are never late.
        """
        asked = np.flatnonzero(self._plan.asked)
        asked = asked[asked >= self._place]
        if self._plan.at_end:
            self.advance(len(self._recording))
        for done, number in enumerate(asked.tolist()):
            if delay_ms == 0:
                self.advance(number)
            elif not self._plan.at_end:
                self._follow(number)
                self._learn(self._late(number, delay_ms))
            self._ask(number, judge)
            if done % 256 == 0:
                self._progress(number, len(self._recording))
        self._progress(len(self._recording), len(self._recording))
        return judge.scored()

    def _late(self, number: int, delay_ms: int | None) -> int:
        """The first event that is not old enough when event `number` is about to happen."""
        if delay_ms is None:
            return self._due
        at_ms = self._recording.at_ms
        old = at_ms[self._due : number] + delay_ms <= at_ms[number]
        return self._due + (len(old) if old.all() else int(old.argmin()))

    def _follow(self, stop: int) -> None:
        numbers = self._place + np.flatnonzero(self._plan.followed[self._place : stop])
        if len(numbers):
            events = list(self._recording.events(numbers))
            for layer in self._layers:
                layer.follow(events)
        self._place = max(stop, self._place)

    def _learn(self, stop: int) -> None:
        numbers = self._due + np.flatnonzero(self._plan.learnt[self._due : stop])
        if len(numbers):
            events = list(self._recording.events(numbers))
            for layer in self._layers:
                layer.learn(events)
        self._due = max(stop, self._due)

    def _ask(self, number: int, judge: "Judge") -> None:
        moment = self._recording.moment(number)
        scores = np.concatenate([layer.scores(moment) for layer in self._layers])
        taken_out = moment.history if self._plan.own_out else moment.history[:0]
        judge.take(number, scores, int(self._recording.items[number]), taken_out)


class Judge:
    """Turns scores into ranks and lists, many events at a time."""

    def __init__(
        self,
        layers: Sequence[Layer],
        rows: Iterable[str],
        top: int,
        vectors: F32,
        ties: Ties = "against",
        interleaved: tuple[str, str] | None = None,
        topics: F32 | None = None,
    ) -> None:
        """`rows` says which of the layers' rows are kept; `vectors` (I, D) of length 1 say how far apart items are, and
        so do `topics` (I, T) in a figure of their own.
        Lists of two rows may be interleaved: then every event is a point for the team that listed it. Raises ValueError
        for a row to interleave that is not kept.
        """
        wanted, every = set(rows), [row for layer in layers for row in layer.rows]
        self._keep = np.array([i for i, row in enumerate(every) if row in wanted], np.int64)
        self._rows = tuple(every[i] for i in self._keep.tolist())
        self._top, self._ties = top, ties
        items, count = len(vectors), len(self._rows)
        self._waiting: F32 = np.empty((max(1, _CELLS // max(items * count, 1)), count, items), np.float32)
        self._targets: list[int] = []  # of those waiting
        self._numbers: list[int] = []
        self._ranks: list[F64] = []
        self._exposures: I64 = np.zeros((count, items), np.int64)
        self._apart = [_Distances(one, count) for one in (vectors, topics) if one is not None]
        self._teams = None if interleaved is None else tuple(self._rows.index(row) for row in interleaved)
        self._points: list[I64] = []

    def take(self, number: int, scores: F32, target: int, taken_out: I32) -> None:
        """One event: scores (rows of all layers, I) of its items, the one that came, and those not in competition."""
        place = self._waiting[len(self._targets)]
        place[:] = usable(scores[self._keep])
        place[:, taken_out] = np.nan
        self._numbers.append(number)
        self._targets.append(target)
        if len(self._targets) == len(self._waiting):
            self._flush()

    def scored(self) -> Scored:
        """All that was taken so far."""
        self._flush()
        distances, *by_topics = [one.found() for one in self._apart]
        every = np.concatenate([np.empty((len(self._rows), 0)), *self._ranks], axis=1)
        points = np.concatenate([np.empty((0, 2), np.int64), *self._points]) if self._teams else None
        numbers = np.array(self._numbers, np.int64)
        topics = by_topics[0] if by_topics else None
        return Scored(self._rows, numbers, every, self._exposures, distances, topics, points)

    def _flush(self) -> None:
        waiting = self._waiting[: len(self._targets)]
        if not len(waiting):
            return
        events, count, items = waiting.shape
        flat = waiting.reshape(-1, items)
        targets = np.repeat(np.array(self._targets, np.int64), count)
        self._ranks.append(ranks(flat, targets, self._ties).reshape(events, count).T)
        np.copyto(flat, -np.inf, where=np.isnan(flat))
        lists, _ = top_k(flat, self._top)
        for row in range(count):
            self._exposures[row] += meters.exposure(lists[row::count], items)
        for one in self._apart:
            one.add(lists)
        if self._teams:
            self._points.append(self._interleave(lists.reshape(events, count, -1)))
        self._targets.clear()

    def _interleave(self, lists: I32) -> I64:
        """Points (events, 2) of the two teams; the coins follow from the events' numbers."""
        assert self._teams is not None
        events = len(lists)
        numbers = np.array(self._numbers[-events:], np.int64)
        coins = draws(np.zeros(events, np.int32), numbers)
        first, second = (lists[:, row] for row in self._teams)
        drafted = team_draft(first, second, coins, self._top)
        came = drafted.items == np.array(self._targets)[:, None]
        return np.stack([(came & (drafted.teams == team)).sum(axis=1) for team in (0, 1)], axis=1)


class _Distances:
    """Intra-list distances of each row's lists by one kind of vectors."""

    def __init__(self, vectors: F32, count: int) -> None:
        self._vectors = vectors
        self._found: list[F64] = [np.empty((count, 0))]

    def add(self, lists: I32) -> None:
        """Lists (events x rows, K) of some events."""
        found = meters.intra_list_distances(lists, self._vectors)
        self._found.append(found.reshape(-1, len(self._found[0])).T)

    def found(self) -> F64:
        """(R, N)"""
        return np.concatenate(self._found, axis=1)
