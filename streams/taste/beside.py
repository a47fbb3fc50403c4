"""What a worker knows of its readers beside their states: what they chose from their lists, what they were shown, who
is like whom. Never written to a changelog: a state stays a function of the reader's own events.

Each is off by default and then costs nothing. It goes with its reader, and is made anew after a restart, as each says.
"""

import asyncio

import numpy as np
from numpy.typing import NDArray

from models.taste import actions
from models.taste.lists.filters import NO_PAIRS
from models.taste.lists.ordering import Ordering, OrderSettings
from models.taste.lists.readersalike import ReadersAlike
from models.taste.lists.sources import Weighted
from models.taste.readers.shown import Shown
from models.taste.readers.users import UserRows
from streams.observe.catalogue import Metrics
from streams.observe.quality import BlendMetrics
from streams.sections.experiments import listings
from streams.sections.taste import Taste
from streams.settings import Settings
from streams.taste.learning import Anonymous, Learning
from streams.taste.training import Training

I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

WEIGHTS_FILE = "blend.weights"
READ_BACK = 4096  # readers at once: some 20 ms in which nothing else runs


class Beside:
    """Of one worker."""

    def __init__(
        self, settings: Settings, users: UserRows, without_profile: Anonymous, metrics: Metrics
    ) -> None:
        taste, kept = settings.taste, settings.state.snapshots
        self._users, self._served = users, taste.served
        self.learning = Learning(
            taste.blend,
            users,
            without_profile,
            kept / f"{settings.kafka.topic_prefix}{WEIGHTS_FILE}" if kept is not None else None,
            settings.state.snapshot_interval_s,
            BlendMetrics(metrics),
            _ordering(settings),
        )
        self.training = Training(
            taste.sequence,
            users,
            without_profile,
            lambda result: metrics.sequence_trainings.labels(result).inc(),
        )
        self._shown = Shown(taste.served.lists, taste.list_size, taste.served.for_s, self._by_lists)
        users.freed.append(self._shown.forget)
        self._alike = _alike(taste, users)
        self.sources = () if self._alike is None else (Weighted(self._alike, taste.list.nearest),)

    @property
    def remembers_lists(self) -> bool:
        """Whether `listed` is to be told of every list."""
        return bool(self._shown) and self._by_lists

    def follow(self, rows: I32, items: I32, kinds: I8, at_ms: I64, partitions: I32, applied: Bools) -> None:
        """Events (n,) in their order, by row of the reader, that were just folded."""
        self.learning.chosen(rows, items, kinds, partitions, applied)
        self.learning.follow(rows, items, kinds, at_ms, partitions, applied)
        self.training.follow(kinds, applied)
        if self._alike is not None:
            self._alike.follow(rows, items, kinds, applied)
        if self._shown:
            if not self._by_lists:
                seen = applied & (kinds == actions.IMPRESSION)
                self._shown.impressions(rows[seen], items[seen], at_ms[seen])
            took = applied & actions.is_positive(kinds)
            self._shown.taken(rows[took], items[took])

    def listed(self, rows: I32, items: I32, at_ms: I64) -> None:
        """Readers by row (B,), each once, are given lists (B, k), -1 padded, at `at_ms` (B,)."""
        self._shown.lists(rows, items, at_ms)

    def barred(self, rows: I32, at_ms: I64) -> I64:
        """(P, 2) of place in `rows` and item that the reader's next list is not to hold."""
        return self._shown.pairs(rows, at_ms) if self._shown else NO_PAIRS

    def was_barred(self, rows: I32, at_ms: I64) -> I64:
        """The same of the reader's newest list."""
        return self._shown.pairs(rows, at_ms, self._by_lists) if self._shown else NO_PAIRS

    async def read_back(self, partition: int) -> None:
        """What follows from the states of a partition that were just read."""
        await self.learning.read_back(partition)
        if self._alike is None:
            return
        rows = self._users.rows_of(self._users.users(partition), partition)
        for start in range(0, len(rows), READ_BACK):
            self._alike.read_back(rows[start : start + READ_BACK])
            await asyncio.sleep(0)

    def bytes_used(self) -> int:
        """Bytes of all of it."""
        alike = 0 if self._alike is None else self._alike.bytes_used()
        return self.learning.bytes_used() + self._shown.bytes_used() + alike

    @property
    def _by_lists(self) -> bool:
        return self._served.by == "lists"


def _ordering(settings: Settings) -> Ordering | None:
    """Where the lists of some reader are ordered by it."""
    taste = settings.taste
    own_first = [
        listing.own_first
        for listing in (taste.list, *listings(taste.list, settings.experiments))
        if listing.order and taste.list.profile == "on"
    ]
    return Ordering(OrderSettings(own_first=any(own_first))) if own_first else None


def _alike(taste: Taste, users: UserRows) -> ReadersAlike | None:
    return ReadersAlike(users) if taste.list.nearest and taste.list.profile == "on" else None
