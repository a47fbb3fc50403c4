"""Recorded events as columns in arrival order, and each reader's history before each of them. NumPy alone.

A history is a slice of one array sorted by reader, so that it costs nothing to look up and cannot hold what comes
later: event e sees the positive events of its reader with a lower number.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.taste import actions

F32 = NDArray[np.float32]
I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

MAX_AT_MS = 1 << 46


@dataclass(frozen=True, slots=True)
class Moment:
    """A reader about to choose: all that a layer may know of them."""

    user: int
    at_ms: int
    history: I32  # items of positive events so far, oldest first; repeats stay
    times_ms: I64  # of those events


@dataclass(frozen=True, slots=True)
class Event:
    """What the reader then did. `number` ascends in arrival order; `moment` is the one before."""

    number: int
    item: int
    kind: int  # code of models.taste.actions
    weight: float
    positive: bool
    moment: Moment


@dataclass(frozen=True, slots=True)
class Recording:
    """n events in arrival order. Users are 0..U-1, items 0..I-1: the closed catalogue, items yet to come included."""

    users: I64  # (n,)
    items: I64  # (n,)
    at_ms: I64  # (n,)
    kinds: I8  # (n,)
    weights: F32  # (n,)
    item_names: tuple[str, ...]  # (I,)
    ratings: F32 | None = None  # (n,) as the readers gave them, where the file has some
    positive: Bools = field(init=False)  # (n,)
    nth: I64 = field(init=False)  # (n,) positive events of the same user before each
    _starts: I64 = field(init=False)  # (U + 1,) into the two below
    _items: I32 = field(init=False)  # items of positive events by user, then arrival
    _times: I64 = field(init=False)

    def __post_init__(self) -> None:
        """Raises ValueError for a time that the state cannot hold."""
        if len(self.at_ms) and not (self.at_ms.min() >= 0 and self.at_ms.max() < MAX_AT_MS):
            raise ValueError("a time is before 1970 or after 4199")
        positive = actions.is_positive(self.kinds)
        order = np.argsort(self.users, kind="stable")
        taken = order[positive[order]]
        size = int(self.users.max(initial=-1)) + 1
        starts = np.concatenate([[0], np.cumsum(np.bincount(self.users[taken], minlength=size))])
        before: I64 = (
            np.cumsum(positive[order]) - positive[order]
        )  # positive events before, in the sorted order
        nth = np.empty(len(order), np.int64)
        nth[order] = before - starts[self.users[order]]
        for name, value in (
            ("positive", positive),
            ("nth", nth),
            ("_starts", starts.astype(np.int64)),
            ("_items", self.items[taken].astype(np.int32)),
            ("_times", self.at_ms[taken]),
        ):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.users)

    def moment(self, number: int) -> Moment:
        """The reader of an event, just before it."""
        user = int(self.users[number])
        start = int(self._starts[user])
        span = slice(start, start + int(self.nth[number]))
        return Moment(user, int(self.at_ms[number]), self._items[span], self._times[span])

    def events(self, numbers: I64) -> Iterator[Event]:
        """Events by number, each with what was known before it."""
        for number in numbers.tolist():
            yield Event(
                number,
                int(self.items[number]),
                int(self.kinds[number]),
                float(self.weights[number]),
                bool(self.positive[number]),
                self.moment(number),
            )

    def repeats(self) -> Bools:
        """(n,) whether the user had a positive event on the item before."""
        pair = self.users * max(len(self.item_names), 1) + self.items
        chosen = np.flatnonzero(self.positive)
        _, first = np.unique(pair[chosen], return_index=True)
        _, back = np.unique(pair[chosen], return_inverse=True)
        earliest = np.full(len(pair), len(pair))
        earliest[chosen] = chosen[first][back]
        # an event that is not positive repeats what a positive one had before; look it up among those
        others = np.flatnonzero(~self.positive)
        if len(others):
            known, at = pair[chosen][first], chosen[first]
            place = np.minimum(np.searchsorted(known, pair[others]), max(len(known) - 1, 0))
            if len(known):
                same = known[place] == pair[others]
                earliest[others[same]] = at[place[same]]
        return earliest < np.arange(len(pair))

    def gaps_ms(self) -> I64:
        """(n,) time since the user's latest positive event, at least 0; -1 for a first one."""
        last = self._starts[self.users] + self.nth - 1
        gaps = (
            np.maximum(self.at_ms - self._times[np.maximum(last, 0)], 0) if len(self._times) else self.at_ms
        )
        return np.where(self.nth > 0, gaps, -1)
