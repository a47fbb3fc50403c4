"""The meters of `headrace evaluate` on a live stream: test then learn, decayed means, a sample. NumPy alone.

A group of events is judged before it is folded. An event is scored as `headrace evaluate clicks --protocol all` scores
it: a positive one of a reader with a history, the reader's own items taken out and ties lost (with `repeats` nothing is
taken out, as in `next-click`). Only a reader's first event of a group has the state of just before it; the others are
counted as left out, never scored with a stale one.

Two things differ from a recording: the catalogue is what is known so far, so an item that cannot be listed yet counts
as a miss whatever the number of items; and a reader's own items are those of the ring.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluate import meters
from models.evaluate.parts import ROWS, row_scores
from models.evaluate.ranks import ranks, usable
from models.taste import actions
from models.taste.items.table import ItemTable
from models.taste.lists.rank import RankSettings
from models.taste.lists.sources import Weighted
from models.taste.readers.users import UserRows

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

TOGETHER = 32  # events judged at once, at most
_CELLS = 1 << 18  # events x items judged at once: 1 MB a row of scores
METERS = ("recall", "mrr", "ndcg")
LEFT_OUT = ("first", "repeat", "group", "time")
"""Why an event of the sample is not scored: no history yet; an item the reader had; not the reader's first event of its
group; no time left."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Events of a group that can be scored, in their order."""

    events: I64  # (N,) places in the group
    rows: I32  # (N,) of the readers
    targets: I32  # (N,) items that came
    at_ms: I64  # (N,)
    left_out: dict[str, int]

    def upto(self, count: int) -> "Asked":
        """The first so many; the others are left out for lack of time."""
        late = len(self.events) - count
        left_out = {**self.left_out, "time": late} if late else self.left_out
        return Asked(
            self.events[:count], self.rows[:count], self.targets[:count], self.at_ms[:count], left_out
        )


def ask(
    users: UserRows, rows: I32, items: I32, kinds: I8, at_ms: I64, fresh: Bools, sampled: Bools, repeats: bool
) -> Asked:
    """What of n events, not yet folded, can be scored: by row of the reader, item, kind and time, (n,) each.

    `fresh` are those that the fold will not refuse as read before, `sampled` those of the sample.
    """
    chosen = np.flatnonzero(fresh & sampled & actions.is_positive(kinds))
    if not len(chosen):
        empty = np.empty(0, np.int32)
        return Asked(chosen, empty, empty, np.empty(0, np.int64), {})
    counted = np.flatnonzero(fresh)
    _, earliest = np.unique(rows[counted], return_index=True)
    leads = np.zeros(len(rows), np.bool_)
    leads[counted[earliest]] = True
    kept = chosen[leads[chosen]]
    had, past, _ = users.recent(rows[kept], users.ring)
    had = np.where(actions.is_positive(past), had, -1)
    some = (had >= 0).any(axis=1)
    again = (had == items[kept][:, None]).any(axis=1) & (not repeats)
    good = some & ~again
    left_out = {
        "group": len(chosen) - len(kept),
        "first": int(np.count_nonzero(~some)),
        "repeat": int(np.count_nonzero(some & again)),
    }
    events = kept[good]
    return Asked(
        events, rows[events], items[events], at_ms[events], {why: n for why, n in left_out.items() if n}
    )


def judge(
    table: ItemTable,
    users: UserRows,
    asked: Asked,
    settings: RankSettings,
    late: Callable[[], bool] = lambda: False,
    further: Sequence[Weighted] = (),
) -> tuple[Asked, F64]:
    """Ranks (6, N) from 1, in the order of ROWS, of the items that came; `inf` for one that cannot be listed.

    `late` is asked between the parts of the work (TOGETHER events); what is then still to do is left out.
    """
    table.cover()
    most = min(TOGETHER, max(1, _CELLS // len(table.items)))
    found = [np.empty((len(ROWS), 0))]
    for start in range(0, len(asked.events), most):
        if start and late():
            asked = asked.upto(start)
            break
        part = slice(start, start + most)
        found.append(
            _ranks(table, users, asked.rows[part], asked.targets[part], asked.at_ms[part], settings, further)
        )
    return asked, np.concatenate(found, axis=1)


def _ranks(
    table: ItemTable,
    users: UserRows,
    rows: I32,
    targets: I32,
    at_ms: I64,
    settings: RankSettings,
    further: Sequence[Weighted],
) -> F64:
    items, kinds, _ = users.recent(rows, users.ring)
    had = np.where(actions.is_positive(kinds), items, -1)[:, ::-1]
    own = [line[line >= 0] for line in had]
    scores = usable(row_scores(table, users, rows, int(at_ms.max()), settings, own, further))
    if not settings.repeat:
        for reader, items_had in enumerate(own):
            scores[:, reader, items_had] = np.nan
    layers, batch, size = scores.shape
    flat = scores.reshape(-1, size)
    wanted = np.tile(targets.astype(np.int64), layers)
    found = ranks(flat, wanted)
    found[flat[np.arange(len(flat)), wanted] == -np.inf] = np.inf
    return found.reshape(layers, batch)


def places(lists: I32, targets: I32) -> F64:
    """Ranks (N,) from 1 of the items that came (N,) in lists (N, K), -1 padded; `inf` for one that is not listed."""
    right = (lists == targets[:, None]) & (targets >= 0)[:, None]
    return np.where(right.any(axis=1), right.argmax(axis=1) + 1.0, np.inf)


class Means:
    """Means of METERS of R rows, an event weighing half as much after `half_life` further ones (`inf`: all alike)."""

    def __init__(self, rows: int, top: int, half_life: float) -> None:
        """Raises ValueError for a half-life that is not above 0."""
        if not half_life > 0:
            raise ValueError("the half-life of a mean is above 0 events")
        self._keep = 0.5 ** (1 / half_life)
        self._top = top
        self._weight = 0.0
        self._sums: F64 = np.zeros((len(METERS), rows))
        self._totals: F64 = np.zeros((len(METERS), rows))
        self.scored = 0

    def add(self, found: F64) -> None:
        """Take ranks (R, N) in the order of their events."""
        count = found.shape[1]
        if not count:
            return
        values = np.stack(
            [
                meters.hits(found, self._top).astype(np.float64),
                meters.reciprocal_ranks(found, self._top),
                meters.discounted_gains(found, self._top),
            ]
        )
        weights = self._keep ** np.arange(count - 1, -1, -1)
        self._sums = self._sums * self._keep**count + values @ weights
        self._weight = self._weight * self._keep**count + float(weights.sum())
        self._totals += values.sum(axis=2)
        self.scored += count

    def decayed(self) -> F64:
        """(3, R) by METERS and row; NaN before the first event."""
        if not self.scored:
            return np.full_like(self._sums, np.nan)
        found: F64 = self._sums / self._weight
        return found

    def total(self) -> F64:
        """(3, R) sums over all events so far, none forgotten."""
        return self._totals.copy()
