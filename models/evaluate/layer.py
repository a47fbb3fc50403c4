"""What can be compared: a layer scores all items for a reader and learns from events as they come.

A new layer is one file with a class like this and one row in `models.evaluate.registry`.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.evaluate.recording import Event, Moment

F32 = NDArray[np.float32]


class Layer(Protocol):
    """One or several rows of the table of results, fed by the same events.

    Two states, so that a stale item table can be measured: the reader's own (`follow`, always up to date) and what all
    readers share (`learn`, at once, late or never). Both get events in arrival order, each once; `learn` may lag behind
    `follow`. An event carries the reader's history before it, so that a layer without a reader's state needs no
    `follow`. A layer uses nothing else: no clock, no file, no randomness but a seed of its own.
    """

    rows: tuple[str, ...]
    """Names in the table, one row of `scores` each."""

    def scores(self, moment: Moment) -> F32:
        """(rows, items) float32, higher is better; `-inf` (or NaN) for an item that this layer cannot list.

        Items that the reader has had are scored like others: the protocol takes them out. The array is the caller's.
        """
        ...

    def follow(self, events: Sequence[Event]) -> None:
        """The reader's own state takes events. Nothing to do where the history that comes with each is enough."""
        return

    def learn(self, events: Sequence[Event]) -> None:
        """What all readers share takes events."""
        ...
