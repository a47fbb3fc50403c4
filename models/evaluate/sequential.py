"""A sequence model as it serves: on readers' rings, alone (`sequence`) and in the blend with Headrace's other layers
(`sequence-blend`). NumPy alone.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.evaluate.recording import Moment
from models.evaluate.served import Served, ServedSettings
from models.sequence.folder import Loaded
from models.sequence.source import SequenceSource
from models.taste.rank import layer_scores
from models.taste.sources import Weighted

F32 = NDArray[np.float32]


class Sequential(Served):
    """The model knows what it was trained on and learns nothing here; readers' rings are always up to date."""

    rows: tuple[str, ...] = ("sequence", "sequence-blend")

    def __init__(self, item_names: Sequence[str], settings: ServedSettings, loaded: Loaded) -> None:
        super().__init__(item_names, settings)
        self._source = SequenceSource(self._users, loaded)
        self._further = (Weighted(self._source, settings.sequence_weight),)

    def scores(self, moment: Moment) -> F32:
        rows = self._users.rows_of([str(moment.user)])
        found = np.empty((2, len(self._names)), np.float32)
        found[0] = self._source.scores(self._users, rows, moment.at_ms)[0, 1:]
        found[0][found[0] <= 0] = -np.inf  # unknown to the model
        parts, listable = layer_scores(
            self._table, self._users, rows, moment.at_ms, self._settings.rank, self._further
        )
        np.sum(parts[:, 0, 1:], axis=0, out=found[1])
        found[1, ~listable[1:]] = -np.inf
        return found
