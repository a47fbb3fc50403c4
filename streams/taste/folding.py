"""The clicks of a group into the readers' rows: one fold over all partitions, with what is judged and learnt from it.

The fixed cost of a fold is paid a group and not a batch. The numbers are in `models.taste`.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from models.taste import odd
from models.taste.actions import weight_table, weights_of
from models.taste.index import ItemIndex
from models.taste.readers.fold import Folded
from models.taste.readers.users import UserRows
from streams.columns import ClickColumns
from streams.observe.agents import AgentMetrics
from streams.observe.catalogue import Metrics
from streams.sections.taste import Taste
from streams.taste.beside import Beside
from streams.taste.experiments import Experiments
from streams.taste.moved import Moved
from streams.taste.quality import LiveQuality
from streams.taste.transitions import WINDOW, TransitionWriter

V = TypeVar("V")


class ClickFold:
    """Of one worker. `quality` is None where nothing of the lists is scored."""

    def __init__(
        self,
        taste: Taste,
        rows: UserRows,
        items: ItemIndex,
        quality: LiveQuality | None,
        beside: Beside,
        experiments: Experiments,
        transitions: TransitionWriter,
        metrics: Metrics,
        agent: AgentMetrics,
    ) -> None:
        self._rows, self._items = rows, items
        self._quality, self._beside, self._experiments = quality, beside, experiments
        self._transitions = transitions
        self._metrics, self._agent = metrics, agent
        self._weights = weight_table(taste.weights.model_dump())
        self._window = WINDOW if taste.transitions else 0

    def __call__(self, parts: Sequence[ClickColumns]) -> Moved:
        """`parts` hold at least a click each, sorted by partition, each in the order in which it was read."""
        rows = self._rows
        row_of = rows.rows_of_all([(part.partition, part.users) for part in parts])
        partitions = np.repeat(
            np.array([part.partition for part in parts], np.int32), [len(part) for part in parts]
        )
        items = self._items.lookup([item for part in parts for item in part.items])
        kinds = np.concatenate([part.kinds for part in parts])
        dwell_s = np.concatenate([part.dwell_s for part in parts])
        weights = weights_of(kinds, dwell_s, self._weights)
        at_ms = np.concatenate([part.at_ms for part in parts])
        offsets = np.concatenate([part.offsets for part in parts])
        ids = np.concatenate([part.ids for part in parts])
        if self._quality is not None:
            self._quality.judge(row_of, items, kinds, at_ms, partitions, offsets)
        strange = odd.strange(kinds, dwell_s, at_ms, rows.newest_at_ms[row_of], rows.half_lives_ms)
        authors = _placed([part.authors for part in parts], parts)
        folded = rows.fold_rows(row_of, items, kinds, weights, at_ms, offsets, self._window, ids, authors)
        self._count(folded, strange)
        if self._quality is not None:
            self._quality.settle(folded.applied)
        self._beside.follow(row_of, items, kinds, at_ms, partitions, folded.applied)
        if self._experiments:
            users = [user for part in parts for user in part.users]
            names = [item for part in parts for item in part.items]
            self._experiments.credit(users, names, kinds, folded.applied)
        records = list(chain.from_iterable(part.records for part in parts))
        wishes = _placed([part.wishes for part in parts], parts)
        return Moved(partitions, items, kinds, weights, at_ms, offsets, folded, wishes, records)

    def _count(self, folded: Folded, strange: dict[str, NDArray[np.bool_]]) -> None:
        """What became of the clicks of a fold; counters are touched only where there is something to count."""
        metrics, applied = self._metrics, int(np.count_nonzero(folded.applied))
        for what, which in strange.items():
            some = int(np.count_nonzero(which & folded.applied))
            if some:
                metrics.odd.labels(what).inc(some)
        unnamed, self._transitions.unnamed = self._transitions.unnamed, 0
        for outcome, undos in (
            ("pair_left", unnamed),
            ("taken_back", len(folded.undone.places)),
            ("shown_again", folded.shown_again),
            ("in_vain", folded.in_vain),
        ):
            if undos:
                metrics.undone.labels(outcome).inc(undos)
        if folded.fell_out:
            metrics.hidden_fell_out.inc(folded.fell_out)
        if folded.duplicates:
            self._agent.duplicated(folded.duplicates)
        repeated = len(folded.applied) - applied - folded.duplicates
        if repeated:
            self._agent.repeated(repeated)


def _placed(found: Sequence[Mapping[int, V]], parts: Sequence[ClickColumns]) -> dict[int, V]:
    """What some clicks of each part have, by their places in the whole."""
    if not any(found):
        return {}
    begins = np.cumsum([0, *map(len, parts)]).tolist()
    return {
        begin + place: one for begin, some in zip(begins, found, strict=False) for place, one in some.items()
    }
