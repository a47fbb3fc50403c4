"""A sequence model as it serves: on readers' rings, alone (`sequence`) and in the blend with Headrace's other layers
(`sequence-blend`). NumPy alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluate.recording import Moment
from models.evaluate.served import Served, ServedSettings
from models.sequence.folder import Loaded
from models.sequence.source import Newest
from models.taste.lists.scores import layer_scores

F32 = NDArray[np.float32]

RETRAINED_ROWS = ("retrained", "retrained-blend")
ONLINE_ROWS = ("retrained-online",)


@dataclass(frozen=True, slots=True)
class Retraining:
    """How the rows of `models.evaluate.retrained` are made; there, because this file does without torch."""

    every: int  # events
    kind: str = "recurrence"
    first_rounds: int = 8  # of a beginning; where events are shuffled, twice as many
    rounds: int = 2
    seed: int = 1
    shuffle: float = 0.0  # see `models.train.histories.windows`
    dropout: float = 0.5  # more than where a validation part says when to stop: there is less to learn from


class Sequential(Served):
    """The model knows what it was trained on and learns nothing here; readers' rings are always up to date."""

    rows: tuple[str, ...] = ("sequence", "sequence-blend")

    def __init__(self, item_names: Sequence[str], settings: ServedSettings, loaded: Loaded | None) -> None:
        """Without a model it says nothing, and the blend is that of the other layers."""
        super().__init__(item_names, settings)
        self._sequence = Newest(self._users, settings.sequence_weight)
        if loaded is not None:
            self._sequence.use(loaded)

    def scores(self, moment: Moment) -> F32:
        rows = self._users.rows_of([str(moment.user)])
        found = np.full((2, len(self._names)), -np.inf, np.float32)
        parts, listable = layer_scores(
            self._table, self._users, rows, moment.at_ms, self._settings.rank, self._sequence.further
        )
        np.sum(parts[:, 0, 1:], axis=0, out=found[1])
        if self._sequence.source is not None:
            found[0] = self._sequence.source.scores(self._users, rows, moment.at_ms)[0, 1:]
            found[0][found[0] <= 0] = -np.inf  # unknown to the model
        found[:, ~listable[1:]] = -np.inf
        return found
