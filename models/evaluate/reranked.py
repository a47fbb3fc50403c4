"""The calibrated blend ordered anew by a small network that learns from every choice: row `reranked`.

The blend chooses the candidates; what the network looks at is `FEATURES` of each: the blend's own parts, and by
`models.taste.learnt.following` what followed the last items, visits like this one, how new and how quiet an item is
and how it is chosen in minutes, hours and days; and where it stands among the reader's own items.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.evaluate.about import About
from models.evaluate.blended import PARTS, Blended, past_of, situations_of
from models.evaluate.recording import Event, Moment
from models.evaluate.served import ServedSettings
from models.taste.learnt.blend import EPS
from models.taste.learnt.following import NAMES, OF_ITEM, Following
from models.taste.learnt.reranker import Reranker, RerankSettings

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

OWN = 8
OF_MOMENT = ("gap", "had", "like")
FEATURES = len(PARTS) + len(NAMES) + len(OF_ITEM) + OWN + len(OF_MOMENT)


class Reranked(Blended):
    """Everything that `Blended` is, and a network over its first candidates."""

    rows: tuple[str, ...] = ("reranked",)

    def __init__(
        self,
        item_names: Sequence[str],
        settings: ServedSettings,
        repeats: bool,
        how: RerankSettings | None = None,
        seed: int = 0,
        about: About | None = None,
    ) -> None:
        super().__init__(item_names, settings, repeats, about)
        self._how = how or RerankSettings()
        size = max(self._items, 1)
        self._following = Following(size)
        self._network = Reranker(FEATURES, self._how, seed)
        self._kept: tuple[tuple[int, int, int, int], tuple[F32, I64, F32]] | None = None

    def scores(self, moment: Moment) -> F32:
        self._follow_before(None)
        blend, candidates, x = self._asked(moment)
        blend = blend.copy()
        if not len(candidates):
            return blend[None]
        found = self._network.scores(x, blend[candidates])
        above = np.delete(blend, candidates).max(initial=-np.inf)
        blend[candidates] = found - found.min() + 1 + (above if np.isfinite(above) else 0)
        return blend[None]

    def _asked(self, moment: Moment) -> tuple[F32, I64, F32]:
        """What the blend says (I,), its candidates (K,) and what the network looks at (K, FEATURES); kept until
        something is learnt."""
        parts, features, listable = self._at(moment)
        key = self._key(moment)
        if self._kept is None or self._kept[0] != key:
            blend = self._blend.scores(features, situations_of(moment))
            blend[~listable] = -np.inf
            candidates = self._candidates(blend, moment)
            self._kept = (key, (blend, candidates, self._looked_at(moment, parts, candidates)))
        return self._kept[1]

    def _candidates(self, blend: F32, moment: Moment) -> I64:
        """The K best listable items, the reader's own first where they may be right."""
        wanted = blend.copy()
        own = np.unique(moment.history)
        if self._repeats:
            wanted[own[np.isfinite(wanted[own])]] = np.inf
        else:
            wanted[own] = -np.inf
        count = min(self._how.candidates, len(wanted))
        best = np.argpartition(-wanted, count - 1)[:count]
        return best[wanted[best] > -np.inf]

    def _looked_at(self, moment: Moment, parts: F32, candidates: I64) -> F32:
        """(K, FEATURES)"""
        history, size = moment.history, self._items
        following = self._following.scores(past_of(moment), moment.at_ms, size)
        everything = np.concatenate([parts, following])
        largest = everything.max(axis=1, keepdims=True)
        x = np.zeros((len(candidates), FEATURES), np.float32)
        shares = everything[:, candidates] / np.where(largest > 0, largest, 1)
        stop = len(everything)
        x[:, :stop] = (np.log1p(np.maximum(shares, 0) / EPS) / np.log1p(1 / EPS)).T
        own = stop + len(OF_ITEM)
        x[:, stop:own] = self._following.of_items(candidates, moment.at_ms)
        self._write_own(moment, candidates, x[:, own : own + OWN])
        gap_s = (moment.at_ms - moment.times_ms[-1]) / 1000 if len(history) else 0
        x[:, -3] = np.log1p(max(gap_s, 0)) / 8
        x[:, -2] = np.log1p(len(history)) / 3
        x[:, -1] = np.sqrt(following[NAMES.index("alike")].max(initial=0))
        return x

    def _write_own(self, moment: Moment, candidates: I64, x: F32) -> None:
        newest = moment.history[::-1]
        distinct, first, times = np.unique(newest, return_index=True, return_counts=True)
        if not len(distinct):
            return
        order = np.argsort(np.argsort(first))
        at = np.minimum(np.searchsorted(distinct, candidates), len(distinct) - 1)
        rows = np.flatnonzero(distinct[at] == candidates)
        at = at[rows]
        x[rows, np.minimum(order[at], 3)] = 1
        x[rows, 4] = 1 / (1 + order[at])
        x[rows, 5] = np.log(times[at])
        x[rows, 6] = len(newest) > 1 and newest[0] == newest[1]

    def _choose(self, event: Event) -> None:
        """The network learns from what the blend said before it learnt."""
        if not self._is_before(event):
            return
        blend, candidates, x = self._asked(event.moment)
        super()._choose(event)
        place = np.flatnonzero(candidates == event.item)
        if len(place):
            self._network.learn(x, blend[candidates], int(place[0]))

    def learn(self, events: Sequence[Event]) -> None:
        for event in events:
            super().learn([event])
            if event.positive:
                self._following.learn(past_of(event.moment), event.item, event.moment.at_ms)
