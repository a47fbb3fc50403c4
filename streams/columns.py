"""Clicks as columns: what a batch of them is once its bytes are decoded (`streams.codecs`)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streams.events import ListWishes
from streams.privacy.orders import Placed
from streams.refusals.rejected import Rejected
from streams.transport.batch import Record


@dataclass(slots=True)
class ClickColumns:
    """The good clicks of one partition, in offset order: lists and arrays of equal length n."""

    partition: int
    users: list[str]
    items: list[str]
    kinds: NDArray[np.int8]  # (n,) codes of models.taste.actions
    dwell_s: NDArray[np.float64]  # (n,) nan where not given
    at_ms: NDArray[np.int64]  # (n,)
    offsets: NDArray[np.int64]  # (n,)
    ids: NDArray[np.uint64]  # (n,) 64-bit hashes of the events' `ce_id`, else `id`; 0 for an empty one
    wishes: dict[int, ListWishes] = field(default_factory=dict)  # by place, of the few that have any
    rejected: list[Rejected] = field(default_factory=list)
    records: Sequence[Record] = ()  # where the clicks came from
    authors: dict[int, int] = field(
        default_factory=dict
    )  # by place: hash of the author's name, of the few that have one
    orders: list[Placed] = field(default_factory=list)  # privacy orders that stand between the clicks

    def __len__(self) -> int:
        return len(self.users)

    def take(self, places: Sequence[int]) -> "ClickColumns":
        """Some of the clicks, without the rest of the batch."""
        chosen = np.asarray(places, np.intp)
        return ClickColumns(
            self.partition,
            [self.users[place] for place in places],
            [self.items[place] for place in places],
            self.kinds[chosen],
            self.dwell_s[chosen],
            self.at_ms[chosen],
            self.offsets[chosen],
            self.ids[chosen],
            {new: self.wishes[old] for new, old in enumerate(places) if old in self.wishes}
            if self.wishes
            else {},
            records=[self.records[place] for place in places],
            authors={new: self.authors[old] for new, old in enumerate(places) if old in self.authors}
            if self.authors
            else {},
        )

    def part(self, partition: int, start: int, stop: int) -> "ClickColumns":
        """The clicks start..stop - 1 of a poll, which are one partition's; none of them was rejected or is an order."""
        cut = slice(start, stop)
        return ClickColumns(
            partition,
            self.users[cut],
            self.items[cut],
            self.kinds[cut],
            self.dwell_s[cut],
            self.at_ms[cut],
            self.offsets[cut],
            self.ids[cut],
            {at - start: one for at, one in self.wishes.items() if start <= at < stop} if self.wishes else {},
            records=self.records[cut],
            authors={at - start: one for at, one in self.authors.items() if start <= at < stop}
            if self.authors
            else {},
        )

    def between_orders(self) -> Iterator[tuple["ClickColumns", Placed | None]]:
        """The clicks before each order with the order, and those after the last."""
        start = 0
        for placed in self.orders:
            stop = int(np.searchsorted(self.offsets, placed.offset))
            yield self.take(range(start, stop)), placed
            start = stop
        yield self.take(range(start, len(self))), None
