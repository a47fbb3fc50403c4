"""User-user cosine as rows of the table: over all readers (`user-cosine`), and over the nearest (`user-nearest`).

Both by `models.taste`, with bounded profiles: a reader's last distinct items, each of value 1. NumPy alone.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.evaluate.layer import Layer
from models.evaluate.recording import Event, Moment
from models.taste.alike.nearest import NearestReaders
from models.taste.alike.usercf import MAX_ITEMS, CosineRows, Profile, deltas, latest, with_value

F32 = NDArray[np.float32]


def _listable(scores: NDArray[np.float64]) -> F32:
    return np.where(scores > 0, scores, -np.inf).astype(np.float32)[None]


class UserCosine(Layer):
    """The exact sum over all readers, from a table of items x items."""

    rows = ("user-cosine",)

    def __init__(self, items: int, ring: int) -> None:
        """Raises ValueError beyond MAX_ITEMS items."""
        if items > MAX_ITEMS:
            raise ValueError(
                f"user-cosine keeps a table of items x items: {items:,} items are over {MAX_ITEMS:,}"
            )
        self._items, self._ring = items, ring
        self._table = CosineRows()

    def scores(self, moment: Moment) -> F32:
        return _listable(self._table.scores(latest(moment.history, self._ring), self._items))

    def learn(self, events: Sequence[Event]) -> None:
        for event in events:
            if event.positive:
                before = latest(event.moment.history, self._ring)
                after = with_value(before, event.item, 1.0, self._ring)
                if event.item not in before.items:  # else the same set, whatever its order
                    self._table.apply(deltas(before, after))


class UserNearest(Layer):
    """The nearest readers alone, found through each item's recent readers."""

    rows = ("user-nearest",)

    def __init__(self, items: int, ring: int, nearest: int) -> None:
        self._items, self._ring = items, ring
        self._readers = NearestReaders(ring, nearest, max_items=max(items, 1))

    def scores(self, moment: Moment) -> F32:
        mine: Profile = latest(moment.history, self._ring)
        return _listable(self._readers.scores(mine, self._items, reader=moment.user))

    def learn(self, events: Sequence[Event]) -> None:
        for event in events:
            if event.positive:
                before = latest(event.moment.history, self._ring)
                after = with_value(before, event.item, 1.0, self._ring)
                self._readers.change(event.moment.user, after, event.item)
