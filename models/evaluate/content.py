"""Content as rows of the table: `content` is the classic B^T C, `content-recent` forgets at the served half-lives.

They know items from a catalogue and readers from their own events: nothing is learnt from others. NumPy alone.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.evaluate.layer import Layer
from models.evaluate.recording import Event, Moment
from models.taste.content import ContentBank

F32 = NDArray[np.float32]


class Content(Layer):
    """The catalogue by content, items yet to be clicked included.

    What has no vector, and every item for a reader without one, is not listed.
    """

    rows = ("content", "content-recent")

    def __init__(self, vectors: F32, half_lives_s: Sequence[float]) -> None:
        """`vectors` (I, D) of length 1 or 0, in the order of the catalogue."""
        self._vectors = vectors
        self._known: NDArray[np.bool_] = (vectors != 0).sum(axis=1) > 0
        self._bank = ContentBank(vectors.shape[1], (math.inf, *half_lives_s))
        self._shares = (0.0, *((1 / len(half_lives_s),) * len(half_lives_s)))

    def scores(self, moment: Moment) -> F32:
        row = np.array([moment.user], np.int32)
        found = np.full((2, len(self._vectors)), -np.inf, np.float32)
        if len(moment.history) and self._known[moment.history].any():
            found[0] = self._bank.classic(row, self._vectors)[0]
            found[1] = self._bank.scores(row, self._vectors, self._shares)[0]
            found[:, ~self._known] = -np.inf
        return found

    def follow(self, events: Sequence[Event]) -> None:
        self._bank.fold(
            np.array([event.moment.user for event in events], np.int32),
            self._vectors[[event.item for event in events]],
            np.array([event.weight for event in events], np.float32),
            np.array([event.moment.at_ms for event in events], np.int64),
        )

    def learn(self, events: Sequence[Event]) -> None:
        return
