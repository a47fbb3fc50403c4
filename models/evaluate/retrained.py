"""A sequence model that is trained on the way: every so many events it learns all so far and is exchanged, as a worker
exchanges revisions. Test, then learn: what it is asked about it has not seen.
"""

from collections.abc import Sequence

import numpy as np

from models.evaluate.recording import Event
from models.evaluate.sequential import RETRAINED_ROWS, Retraining, Sequential
from models.evaluate.served import ServedSettings
from models.sequence.folder import Loaded, Manifest
from models.taste.items import hash_of
from models.train.online import Online
from models.train.sequence import Recipe, served


class Retrained(Sequential):
    """The vocabulary is the closed catalogue; what nobody had yet has no row in the item table and is not listed."""

    rows: tuple[str, ...] = RETRAINED_ROWS

    def __init__(self, item_names: Sequence[str], settings: ServedSettings, how: Retraining) -> None:
        super().__init__(item_names, settings, None)
        self._how = how
        self._hashes = np.array([hash_of(name) for name in item_names], np.uint64)
        recipe = Recipe(kind=how.kind, seed=how.seed)
        self._online = Online(len(item_names), recipe, how.first_rounds, how.rounds)
        self._learnt = self._trained = 0

    def learn(self, events: Sequence[Event]) -> None:
        super().learn(events)
        for first in range(
            len(events)
        ):  # a training falls behind the same event however events are handed in
            event = events[first]
            self._learnt += 1
            if event.positive:
                self._online.take([event.moment.user], [event.item])
            if self._learnt % self._how.every == 0:
                self._train()

    def _train(self) -> None:
        self._trained += 1
        tensors = self._online.train()
        manifest = Manifest(self._how.kind, f"r{self._trained}", f"{self._trained:016x}{'0' * 48}", "", 0, {})
        self._use(Loaded(served(self._how.kind, tensors, self._hashes), manifest))
