"""A sequence network that goes on learning from a stream: after every so many events a few rounds through all so far.

It goes on from where it is, optimiser included; when there are twice as many events as when it began it begins anew, as
`models.train.sequence` does. Nothing is held back to choose a round by: how many there are is given.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from models.sequence.model import WINDOW
from models.train.histories import Histories, windows
from models.train.sequence import F32, Fit, Recipe, begun


class Online:
    """Events of readers, as they come, over a vocabulary that is known beforehand."""

    def __init__(self, items: int, recipe: Recipe, first_rounds: int, rounds: int) -> None:
        self._items, self._recipe = items, recipe
        self._first_rounds, self._rounds = first_rounds, rounds
        self._histories: dict[int, list[int]] = {}
        self._rng = np.random.default_rng(recipe.seed)
        self._fit: Fit | None = None
        self._taken = self._begun_with = 0

    def take(self, readers: Sequence[int], items: Sequence[int]) -> None:
        """Events in arrival order."""
        for reader, item in zip(readers, items, strict=True):
            self._histories.setdefault(reader, []).append(item)
        self._taken += len(items)

    def train(self) -> dict[str, F32]:
        """The weights after some more rounds through all events taken. Takes torch's thread count as it finds it."""
        histories = self._as_histories()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(self._rng.integers(1 << 31)))
            fit, rounds = self._fit, self._rounds
            if fit is None or self._taken >= 2 * self._begun_with:
                fit = Fit(begun(histories, self._items, self._recipe, self._rng), self._recipe)
                rounds, self._begun_with = self._first_rounds, self._taken
            for _ in range(rounds):
                made = windows(histories, WINDOW, self._rng, self._recipe.shuffle)
                fit.round(made, self._rng, lambda: False)
        self._fit = fit
        return fit.mean()

    def _as_histories(self) -> Histories:
        lengths = [len(one) for one in self._histories.values()]
        items: NDArray[np.int32] = np.fromiter(
            (item for one in self._histories.values() for item in one), np.int32, sum(lengths)
        )
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        nothing = np.zeros(len(items), np.int8)
        return Histories(items, nothing.astype(np.int64), starts, nothing)
