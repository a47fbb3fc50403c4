"""How good the lists are, on the clicks themselves: a sample is scored before it is folded, by `models.evaluate.live`,
and the decayed means are shown as metrics. No record is written and no list is changed by it.

The sample is a function of the source offset, so that a replay scores the same events. Time is bounded: beyond a share
of it, events of the sample are left out and counted.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluate import live
from models.evaluate.parts import ROWS
from models.taste.catalogue import Catalogue
from models.taste.explore import draws
from models.taste.pipeline import ListSettings, Requests, lists
from models.taste.table import ItemTable
from models.taste.users import UserRows
from streams.clock import Clock
from streams.observe.catalogue import Metrics
from streams.settings import Quality

F64 = NDArray[np.float64]
I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

LAYERS = (*ROWS, "list")
"""Values of the label `layer`: the rows of an evaluation, and the list as it would be published now."""
SALT = 1  # the sample knows nothing of what is explored
BURST_S = 0.25  # of work that may have been saved up


@dataclass(frozen=True, slots=True)
class Served:
    """What lists are made from."""

    users: UserRows
    table: ItemTable
    catalogue: Catalogue
    settings: ListSettings
    size: int


class LiveQuality:
    """The meters of one worker. They begin anew with it: nothing is stored."""

    def __init__(self, settings: Quality, served: Served, metrics: Metrics, clock: Clock) -> None:
        self._settings, self._served, self._clock = settings, served, clock
        self._metrics = metrics
        self._means = live.Means(len(LAYERS), settings.top, settings.half_life_events)
        self._waiting: tuple[live.Asked, F64] | None = None  # judged, and not yet known to be folded
        self._credit_s, self._seen_s = BURST_S, clock.monotonic_s()
        metrics.quality_top.set(settings.top)

    def judge(self, rows: I32, items: I32, kinds: I8, at_ms: I64, partitions: I32, offsets: I64) -> None:
        """Score the sample of a group of n events that is about to be folded; (n,) each, rows of their readers."""
        self._waiting = None
        if not self._settings.sample:
            return
        began_s, late = self._budget()
        users, how = self._served.users, self._served.settings.rank
        sampled = draws(partitions, offsets, SALT) < self._settings.sample
        fresh = offsets > users.fence[rows]
        asked = live.ask(users, rows, items, kinds, at_ms, fresh, sampled, how.repeat)
        asked, found = live.judge(self._served.table, users, asked, how, late)
        placed = self._places(asked, partitions)
        self._waiting = asked, np.concatenate([found, placed[None]])
        spent_s = self._clock.monotonic_s() - began_s
        self._credit_s -= spent_s
        self._metrics.quality_seconds.inc(max(0.0, spent_s))

    def settle(self, applied: Bools) -> None:
        """Count what was judged, now that the group is folded: not what the fold took for a duplicate."""
        if self._waiting is None:
            return
        (asked, found), self._waiting = self._waiting, None
        for why, count in asked.left_out.items():
            self._metrics.quality_left_out.labels(why).inc(count)
        found = found[:, applied[asked.events]]
        if not found.shape[1]:
            return
        self._means.add(found)
        for layer, (recall, mrr, ndcg) in zip(LAYERS, self._means.decayed().T.tolist(), strict=True):
            self._metrics.recall.labels(layer).set(recall)
            self._metrics.mrr.labels(layer).set(mrr)
            self._metrics.ndcg.labels(layer).set(ndcg)
            self._metrics.quality_scored.labels(layer).inc(found.shape[1])

    def _places(self, asked: live.Asked, partitions: I32) -> F64:
        """Places (N,) of the items that came in the lists that their readers would be given now."""
        served, rows = self._served, asked.rows
        found = np.empty(len(rows))
        numbers = draws(partitions[asked.events], served.users.fence[rows])  # of the reader's newest list
        for start in range(0, len(rows), live.TOGETHER):
            part = slice(start, start + live.TOGETHER)
            made = lists(
                served.table,
                served.catalogue,
                served.users,
                Requests(rows[part], numbers[part]),
                int(asked.at_ms[part].max()),
                served.size,
                served.settings,
            )
            found[part] = live.places(made.lists.items, asked.targets[part])
        return found

    def _budget(self) -> tuple[float, Callable[[], bool]]:
        """Now, and whether the time is spent."""
        now_s = self._clock.monotonic_s()
        earned_s = (now_s - self._seen_s) * self._settings.time_share
        self._credit_s, self._seen_s = min(self._credit_s + earned_s, BURST_S), now_s
        return now_s, lambda: self._clock.monotonic_s() - now_s > self._credit_s
