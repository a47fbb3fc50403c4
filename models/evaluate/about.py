"""What a catalogue says of items, as parts of the calibrated blend: topics and years. NumPy alone.

    topics        likeness to the topics of the reader's latest items, each counting less than the one after it
    topics-last   the same for the last item alone
    years         how near in years to the last items: the mean of exp(-years apart / 3)

What is not known of an item, or of all the items it is compared with, says nothing.
"""

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

NAMES = ("topics", "topics-last", "years")
_FADE, _WINDOW = 0.85, 30
_LAST, _APART = 5, 3.0  # items, years


class About:
    """Of one catalogue of I items. Knows nothing of readers."""

    def __init__(self, topics: F32, years: F32) -> None:
        """`topics` (I, T) have length 1 or 0; `years` (I,) are NaN where unknown. Raises ValueError for arrays of
        different catalogues."""
        if len(topics) != len(years):
            raise ValueError(f"topics of {len(topics)} items and years of {len(years)}")
        self._topics, self._years = topics, years
        self._dated = np.isfinite(years)

    def scores(self, history: I32) -> F32:
        """(len(NAMES), I) for a reader with this history, oldest first."""
        found = np.zeros((len(NAMES), len(self._topics)), np.float32)
        if not len(history):
            return found
        recent = history[-_WINDOW:]
        weights = np.power(_FADE, np.arange(len(recent), dtype=np.float32)[::-1])
        found[0] = self._topics @ (weights / weights.sum() @ self._topics[recent])
        found[1] = self._topics @ self._topics[history[-1]]
        last = history[-_LAST:]
        years = self._years[last[self._dated[last]]]
        if len(years):
            apart = np.abs(self._years[self._dated, None] - years)
            found[2, self._dated] = np.exp(-apart / np.float32(_APART)).mean(axis=1)
        return found
