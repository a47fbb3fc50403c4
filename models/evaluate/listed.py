"""The row `list`: what a worker would publish, with all stages of `models.taste.pipeline`, instead of the scores alone.

A list is K items; behind them stand the others in the order of the blend, so that every event has a rank. What the
protocol takes out is excluded from the list before it is made, as a worker does with what its ring remembers. Of a
catalogue authors and topics are known from the start; an item is listed once it has come up, as in the other rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from models.evaluate.recording import Moment
from models.evaluate.served import Served, ServedSettings
from models.taste.catalogue import Catalogue, Entry
from models.taste.explore import draws
from models.taste.filters import Wishes
from models.taste.pipeline import ListSettings, Requests, lists
from models.taste.rank import layer_scores

F32 = NDArray[np.float32]


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

    def scores(self, moment: Moment) -> F32:
        row = self._users.rows_of([str(moment.user)])
        parts, listable = layer_scores(self._table, self._users, row, moment.at_ms, self._settings.rank)
        scores = parts.sum(axis=0)
        scores[:, ~listable] = -np.inf
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
        )
        found = made.lists.items[0]
        found = found[found >= 0]
        top = float(scores.max(initial=-np.inf))
        base = top if np.isfinite(top) else 0.0
        scores[0, found] = base + (1 + abs(base)) * np.arange(len(found), 0, -1, dtype=np.float32)
        row_of: F32 = scores[:, 1:]
        return row_of
