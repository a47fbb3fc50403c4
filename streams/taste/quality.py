"""How good the lists are, on the clicks themselves: a sample is scored before it is folded, by `models.evaluate.live`,
and the decayed means are shown as metrics. No record is written and no list is changed by it.

The sample is a function of the source offset, so that a replay scores the same events. Time is bounded: beyond a share
of it, events of the sample are left out and counted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluate import live
from models.evaluate.parts import ROWS
from models.taste import actions
from models.taste.items.catalogue import Catalogue
from models.taste.items.table import ItemTable
from models.taste.learnt.calibrated import Calibrated
from models.taste.lists.explore import draws
from models.taste.lists.filters import NO_PAIRS, Wishes
from models.taste.lists.ordering import Ordering
from models.taste.lists.pipeline import lists
from models.taste.lists.request import ListSettings, Requests
from models.taste.lists.sources import Weighted
from models.taste.readers.users import UserRows
from streams.clock import Clock
from streams.observe.quality import QualityMetrics
from streams.sections.taste import Quality
from streams.taste.experiments import Experiments, Variant

F64 = NDArray[np.float64]
I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

LAYERS = (*ROWS, "list")
"""Values of the label `layer`: the rows of an evaluation, and the list as it would be published now."""
SALT = 1  # the sample knows nothing of what is explored
BURST_S = 0.01  # of work that may have been saved up: what a group of clicks waits longer, at most about


@dataclass(frozen=True, slots=True)
class Served:
    """What lists are made from."""

    users: UserRows
    table: ItemTable
    catalogue: Catalogue
    settings: ListSettings
    size: int
    further: Callable[[], Sequence[Weighted]] = lambda: ()  # sources beside counts, taste and popularity
    learnt: Calibrated | None = None  # weights of lists with `blend` on
    ordering: Ordering | None = None  # the same of those with `order` on
    shown: Callable[[I32, I64], I64] | None = (
        None  # pairs of place and item that newest lists were not to hold
    )


@dataclass(frozen=True, slots=True)
class _Judged:
    """A group's events with the ranks (layers, N) of the items that came, and by arm: which of the N, their places."""

    asked: live.Asked
    ranks: F64
    by_arm: list[tuple[Variant, I64, F64]]


class LiveQuality:
    """The meters of one worker. They begin anew with it: nothing is stored."""

    def __init__(
        self,
        settings: Quality,
        served: Served,
        experiments: Experiments,
        metrics: QualityMetrics,
        clock: Clock,
    ) -> None:
        self._settings, self._served, self._clock = settings, served, clock
        self._experiments, self._metrics = experiments, metrics
        self._means = live.Means(len(LAYERS), settings.top, settings.half_life_events)
        self._arms: dict[tuple[int, int], live.Means] = {}
        self._waiting: _Judged | None = None  # not yet known to be folded
        self._credit_s, self._seen_s = BURST_S, clock.monotonic_s()
        metrics.top(settings.top)

    def judge(self, rows: I32, items: I32, kinds: I8, at_ms: I64, partitions: I32, offsets: I64) -> None:
        """Score the sample of a group of n events that is about to be folded; (n,) each, rows of their readers."""
        self._waiting = None
        if not self._settings.sample:
            return
        sampled = draws(partitions, offsets, SALT) < self._settings.sample
        if not sampled.any():  # most small groups
            return
        users, how = self._served.users, self._served.settings.rank
        fresh = offsets > users.fence[rows]
        began_s, late = self._budget()
        if self._credit_s <= 0:
            chosen = sampled & fresh & actions.is_positive(kinds)
            self._metrics.left_out({"time": int(np.count_nonzero(chosen))})
            return
        asked = live.ask(users, rows, items, kinds, at_ms, fresh, sampled, how.repeat)
        asked, found = live.judge(self._served.table, users, asked, how, late, self._served.further())
        placed, by_arm = self._places(asked, partitions)
        self._waiting = _Judged(asked, np.concatenate([found, placed[None]]), by_arm)
        spent_s = self._clock.monotonic_s() - began_s
        self._credit_s -= spent_s
        self._metrics.spent(spent_s)

    def settle(self, applied: Bools) -> None:
        """Count what was judged, now that the group is folded: not what the fold took for a duplicate."""
        if self._waiting is None:
            return
        judged, self._waiting = self._waiting, None
        self._metrics.left_out(judged.asked.left_out)
        kept = applied[judged.asked.events]
        if not kept.any():
            return
        self._means.add(judged.ranks[:, kept])
        scored = int(np.count_nonzero(kept))
        for layer, means in zip(LAYERS, self._means.decayed().T.tolist(), strict=True):
            self._metrics.layer(layer, means, scored)
        for variant, places, placed in judged.by_arm:
            self._settle_arm(variant, placed[kept[places]])

    def _settle_arm(self, variant: Variant, found: F64) -> None:
        if not len(found):
            return
        means = self._arms.get(variant.place)
        if means is None:
            means = live.Means(1, self._settings.top, self._settings.half_life_events)
            self._arms[variant.place] = means
        before = means.total()
        means.add(found[None])
        sums = means.total() - before
        self._metrics.arm(
            (variant.experiment, variant.arm),
            means.decayed()[:, 0].tolist(),
            sums[:, 0].tolist(),
            len(found),
        )

    def _places(self, asked: live.Asked, partitions: I32) -> tuple[F64, list[tuple[Variant, I64, F64]]]:
        """Places (N,) of the items that came in the lists that their readers would be given now, and the same for each
        arm: which of the N, and their places. Of readers of interleaved lists both arms are asked; the first one's
        list stands for both.
        """
        numbers = draws(partitions[asked.events], self._served.users.fence[asked.rows])  # of the newest list
        names = self._served.users.names
        found, by_arm = np.empty(len(asked.rows)), []
        groups: list[tuple[I64, list[Variant]]] = [(np.arange(len(asked.rows)), [])]
        if self._experiments:
            groups = self._experiments.groups([names[row] for row in asked.rows.tolist()])
        for places, variants in groups:
            if not variants:
                found[places] = self._placed(asked, places, numbers, self._served.settings)
                continue
            ranks = [self._placed(asked, places, numbers, variant.settings) for variant in variants]
            by_arm += [(variant, places, one) for variant, one in zip(variants, ranks, strict=True)]
            found[places] = ranks[0]
        return found, by_arm

    def _placed(self, asked: live.Asked, places: I64, numbers: F64, how: ListSettings) -> F64:
        served = self._served
        found = np.empty(len(places))
        for start in range(0, len(places), live.TOGETHER):
            part = places[start : start + live.TOGETHER]
            rows, at_ms = asked.rows[part], asked.at_ms[part]
            excluded = served.shown(rows, at_ms) if served.shown is not None else NO_PAIRS
            made = lists(
                served.table,
                served.catalogue,
                served.users,
                Requests(rows, numbers[part], wishes=Wishes(excluded=excluded)),
                int(at_ms.max()),
                served.size,
                how,
                further=served.further(),
                learnt=served.learnt,
                ordering=served.ordering,
            )
            found[start : start + live.TOGETHER] = live.places(made.lists.items, asked.targets[part])
        return found

    def _budget(self) -> tuple[float, Callable[[], bool]]:
        """Now, and whether the time is spent; a share of 1 is no bound."""
        now_s = self._clock.monotonic_s()
        share = self._settings.time_share
        if share >= 1:
            self._credit_s = BURST_S
            return now_s, lambda: False
        self._credit_s = min(self._credit_s + (now_s - self._seen_s) * share, BURST_S)
        self._seen_s = now_s
        return now_s, lambda: self._clock.monotonic_s() - now_s >= self._credit_s
