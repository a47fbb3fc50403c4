"""A sequence model that is trained on the way: every so many events it learns all so far and is exchanged, as a worker
exchanges revisions. Test, then learn: what it is asked about it has not seen.

Rows: `retrained` alone, `retrained-blend` with a fixed weight beside what is served, `retrained-online` as one more
part of the calibrated blend.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.evaluate.about import About
from models.evaluate.blended import Blended, situations_of
from models.evaluate.recording import Event, Moment
from models.evaluate.sequential import ONLINE_ROWS, RETRAINED_ROWS, Retraining, Sequential
from models.evaluate.served import ServedSettings
from models.sequence.folder import Loaded, Manifest
from models.sequence.source import SequenceSource
from models.taste.index import hash_of
from models.taste.learnt.blend import FORMS, spread
from models.train.online import Online
from models.train.sequence import Recipe, served

F32 = NDArray[np.float32]
Bools = NDArray[np.bool_]


class Training:
    """Events into a model, a new one after every so many. The vocabulary is the closed catalogue; what nobody had yet
    has no row in the item table and is not listed."""

    def __init__(self, item_names: Sequence[str], how: Retraining) -> None:
        self._how = how
        self._hashes = np.array([hash_of(name) for name in item_names], np.uint64)
        recipe = Recipe(kind=how.kind, seed=how.seed, dropout=how.dropout, shuffle=how.shuffle)
        more = 2 if how.shuffle else 1  # as `models.train.sequence.all_rounds`
        self._online = Online(len(item_names), recipe, more * how.first_rounds, more * how.rounds)
        self._learnt = self._trained = 0

    def after(self, event: Event) -> Loaded | None:
        """A model, if one is due behind this event."""
        self._learnt += 1
        if event.positive:
            self._online.take([event.moment.user], [event.item])
        if self._learnt % self._how.every:
            return None
        self._trained += 1
        tensors = self._online.train()
        manifest = Manifest(self._how.kind, f"r{self._trained}", f"{self._trained:016x}{'0' * 48}", "", 0, {})
        return Loaded(served(self._how.kind, tensors, self._hashes), manifest)


class Retrained(Sequential):
    """Alone, and with a fixed weight."""

    rows: tuple[str, ...] = RETRAINED_ROWS

    def __init__(self, item_names: Sequence[str], settings: ServedSettings, how: Retraining) -> None:
        super().__init__(item_names, settings, None)
        self._training = Training(item_names, how)

    def learn(self, events: Sequence[Event]) -> None:
        super().learn(events)
        for event in events:  # a training falls behind the same event however events are handed in
            loaded = self._training.after(event)
            if loaded is not None:
                self._sequence.use(loaded)


class RetrainedOnline(Blended):
    """The calibrated blend with one part more; until there is a model that part says nothing."""

    rows: tuple[str, ...] = ONLINE_ROWS

    def __init__(
        self,
        item_names: Sequence[str],
        settings: ServedSettings,
        repeats: bool,
        how: Retraining,
        about: About | None = None,
    ) -> None:
        super().__init__(item_names, settings, repeats, about)
        self._begin(np.append(self._blend.weights[: self._blend.features], np.zeros(FORMS)))
        self._training = Training(item_names, how)
        self._source: SequenceSource | None = None

    def scores(self, moment: Moment) -> F32:
        self._follow_before(None)
        _, features, listable = self._at(moment)
        found = self._blend.scores(features, situations_of(moment))[None]
        found[:, ~listable] = -np.inf
        return found

    def learn(self, events: Sequence[Event]) -> None:
        for event in events:
            super().learn([event])
            loaded = self._training.after(event)
            if loaded is None:
                continue
            self._last = None  # its parts were the old model's
            if self._source is None:
                self._source = SequenceSource(self._served.users, loaded)
            else:
                self._source.use(loaded)

    def _fresh(self, moment: Moment) -> tuple[F32, F32, Bools]:
        parts, features, listable = super()._fresh(moment)
        part = np.zeros((1, parts.shape[1]), np.float32)
        if self._source is not None:
            rows = self._served.users.rows_of([str(moment.user)])
            part[:] = self._source.scores(self._served.users, rows, moment.at_ms)[:, 1:]
        return parts, np.concatenate([features, spread(part)]), listable
