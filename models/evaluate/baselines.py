"""What any recommender must beat: popularity, the last-item rule, item-to-item cosine. NumPy alone.

They learn from positive events, one count each, and forget nothing. What they know nothing of they do not list.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.evaluate.layer import Layer
from models.evaluate.recording import Event, Moment

F32 = NDArray[np.float32]

MAX_KNN_ITEMS = 12_288  # item x item counts of 600 MB
_HISTORY = 500  # last events of a reader that item-to-item cosine looks at


def _listable(scores: F32) -> F32:
    """(1, I): scores above 0, `-inf` for the others."""
    return np.where(scores > 0, scores, np.float32(-np.inf))[None]


class Popularity(Layer):
    """How often each item was chosen so far."""

    rows = ("popularity",)

    def __init__(self, items: int) -> None:
        self._counts: F32 = np.zeros(items, np.float32)

    def scores(self, moment: Moment) -> F32:
        return _listable(self._counts)

    def learn(self, events: Sequence[Event]) -> None:
        for event in events:
            self._counts[event.item] += event.positive


class LastItem(Layer):
    """How often each item followed the reader's last one, directly; a repeat of the item counts as well."""

    rows = ("last-item",)

    def __init__(self, items: int) -> None:
        self._items = items
        self._next: dict[int, dict[int, int]] = {}

    def scores(self, moment: Moment) -> F32:
        found = np.full((1, self._items), -np.inf, np.float32)
        followers = self._next.get(int(moment.history[-1])) if len(moment.history) else None
        if followers:
            count = len(followers)
            found[0, np.fromiter(followers, np.int64, count)] = np.fromiter(
                followers.values(), np.float32, count
            )
        return found

    def learn(self, events: Sequence[Event]) -> None:
        for event in events:
            if event.positive and len(event.moment.history):
                followers = self._next.setdefault(int(event.moment.history[-1]), {})
                followers[event.item] = followers.get(event.item, 0) + 1


class ItemKnn(Layer):
    """Sum over the reader's items j of cos(j, i) = N[i, j] / sqrt(n_i n_j), N the readers who had both (Sarwar 2001).

    All neighbours count. An item counts once a reader.
    """

    rows = ("item-knn",)

    def __init__(self, items: int) -> None:
        """Raises ValueError beyond MAX_KNN_ITEMS."""
        if items > MAX_KNN_ITEMS:
            raise ValueError(
                f"item-knn keeps items x items counts: {items:,} items are over {MAX_KNN_ITEMS:,}"
            )
        self._both: F32 = np.zeros((items, items), np.float32)
        self._readers: F32 = np.zeros(items, np.float32)

    def scores(self, moment: Moment) -> F32:
        had = np.unique(moment.history[-_HISTORY:])
        share: F32 = np.reciprocal(np.sqrt(np.maximum(self._readers, 1)))
        sums: F32 = share[had] @ self._both[had]
        return _listable(sums * share)

    def learn(self, events: Sequence[Event]) -> None:
        for event in events:
            item, had = event.item, np.unique(event.moment.history[-_HISTORY:])
            if not event.positive or item in event.moment.history:
                continue
            self._readers[item] += 1
            self._both[item, item] += 1
            self._both[item, had] += 1
            self._both[had, item] += 1
