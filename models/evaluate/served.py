"""Headrace's own layers, through the code that serves: readers' rows, transitions, item columns, the item table as
encoded bytes, the ranking's own parts. NumPy alone.

Rows `counts`, `taste`, `trending` (popularity with the half-life of the item table) are the parts of the score, `blend`
is their sum as served, `own-first` the blend behind the reader's own items, latest first, `last` the counts of the
reader's last item alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.evaluate.layer import Layer
from models.evaluate.parts import ROWS, row_scores
from models.evaluate.recording import Event, Moment
from models.taste.index import ItemIndex
from models.taste.items.neighbours import ItemColumns
from models.taste.items.table import ItemTable
from models.taste.learnt.pairs import walked
from models.taste.lists.rank import RankSettings
from models.taste.lists.scores import layer_scores
from models.taste.readers.fold import Folded
from models.taste.readers.rows import HALF_LIVES_S
from models.taste.readers.transitions import transitions
from models.taste.readers.users import UserRows

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ServedSettings:
    """As a worker has them, with its defaults."""

    dim: int = 64
    half_lives_s: tuple[float, ...] = HALF_LIVES_S  # of readers' vectors
    ring: int = 64
    window: int = 10  # previous items of a transition
    item_half_life_s: float = 30 * 86400.0
    discount: float = 0.9
    symmetry: float = 0.5
    keep: int = 100  # predecessors kept and published an item
    followers: int = 200
    nearest: int = 50  # readers that `user-nearest` sums over
    sequence_weight: float = 1.0  # of a sequence model in `sequence-blend`
    rank: RankSettings = field(default_factory=RankSettings)

    def __post_init__(self) -> None:
        """Raises ValueError for numbers that no worker takes."""
        sizes = {
            "ring": self.ring,
            "window": self.window,
            "keep": self.keep,
            "followers": self.followers,
            "nearest": self.nearest,
        }
        wrong = [name for name, value in (sizes | {"rank.window": self.rank.window}).items() if value < 1]
        if wrong:
            raise ValueError(f"{', '.join(wrong)} must be at least 1")
        if not (0 <= self.discount <= 1 and 0 <= self.symmetry <= 1):
            raise ValueError("discount and symmetry lie between 0 and 1")
        if not min(self.item_half_life_s, *self.half_lives_s) >= 0.001:
            raise ValueError("a half-life must be at least 1 ms")


class Served(Layer):
    """A worker's state for one recording. Items get the indices 1..I of the closed catalogue; one that has not come yet
    has no row in the table and cannot be listed.
    """

    rows: tuple[str, ...] = ROWS

    def __init__(self, item_names: Sequence[str], settings: ServedSettings) -> None:
        self._settings = settings
        self._names = item_names
        self._index = ItemIndex(max_items=len(item_names) + 1, dim=settings.dim)
        self._index.lookup(item_names)
        self._users = UserRows(self._index, settings.half_lives_s, settings.ring)
        self._columns = ItemColumns(
            self._index, 1, settings.item_half_life_s, settings.keep, settings.discount
        )
        self._table = ItemTable(
            self._index, settings.item_half_life_s, settings.followers, settings.keep, settings.symmetry
        )
        self._previous: dict[int, I32] = {}  # of events followed and not yet learnt, by number

    def parts(self, moment: Moment) -> tuple[F32, Bools]:
        """Scores of counts, taste and popularity (3, I), and which items may be listed (I,)."""
        rows = self._users.rows_of([str(moment.user)])
        parts, listable = layer_scores(self._table, self._users, rows, moment.at_ms, self._settings.rank)
        return parts[:3, 0, 1:], listable[1:]

    def second_step(self, counts: F32, at_ms: int) -> F32:
        """(I,) where two steps lead, from the counts (I,) of a moment."""
        power = self._settings.rank.popularity_power
        prepared = self._table.prepared(at_ms, power)
        every = np.arange(len(self._index), dtype=np.int32)
        sums = self._table.row_sums(every) * prepared.factor
        scores = np.append(np.float32(0), counts)
        return walked(scores, self._table.followers, sums, prepared.column, self._settings.rank.row_power)[1:]

    @property
    def users(self) -> UserRows:
        """Readers' own states, up to the events followed."""
        return self._users

    def scores(self, moment: Moment) -> F32:
        rows = self._users.rows_of([str(moment.user)])
        found: F32 = row_scores(
            self._table, self._users, rows, moment.at_ms, self._settings.rank, [moment.history + 1]
        )[:, 0, 1:]
        return found

    def follow(self, events: Sequence[Event]) -> None:
        folded = self._users.fold(
            [str(event.moment.user) for event in events], *self._columns_of(events), self._settings.window
        )
        for event, previous in zip(events, folded.previous, strict=True):
            self._previous[event.number] = previous

    def learn(self, events: Sequence[Event]) -> None:
        items, kinds, weights, at_ms, numbers = self._columns_of(events)
        n = len(events)
        previous = np.stack([self._previous.pop(event.number) for event in events])
        folded = Folded(
            np.empty(0, np.int32),
            np.empty(0, np.int64),
            np.ones(n, np.bool_),
            np.zeros(n, np.int32),
            0,
            previous,
        )
        moved = transitions(folded, items, kinds, weights, at_ms, numbers, 0)
        changed = self._columns.fold(moved, moved.source_offsets)
        if len(changed):
            rows = self._columns.encode(changed, self._settings.keep)
            self._table.apply(self._columns.names(changed), list(rows))

    def _columns_of(
        self, events: Sequence[Event]
    ) -> tuple[I32, NDArray[np.int8], F32, NDArray[np.int64], NDArray[np.int64]]:
        return (
            np.array([event.item + 1 for event in events], np.int32),
            np.array([event.kind for event in events], np.int8),
            np.array([event.weight for event in events], np.float32),
            np.array([event.moment.at_ms for event in events], np.int64),
            np.array([event.number for event in events], np.int64),
        )
