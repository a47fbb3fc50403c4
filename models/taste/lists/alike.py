"""Content as a source of scores: items like those that a reader had last. NumPy alone.

    S(i) = sum over the last W positive items j_k of lambda**(k-1) cos(j_k, i) / sum of lambda**(k-1)

over the likes of each j_k (`models.taste.items.contents`): 1 for an item that is what all of them are, 0 for one that
is like none. An upload is among the likes of what it resembles from its vector on.
"""

import numpy as np
from numpy.typing import NDArray

from models.taste import actions
from models.taste.items.contents import Contents
from models.taste.readers.users import UserRows

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]


class ContentSource:
    """See `models.taste.lists.sources.Source`."""

    name = "content"

    def __init__(self, contents: Contents, window: int = 10, order_decay: float = 0.85) -> None:
        self._contents = contents
        self._decays = (order_decay ** np.arange(window)).astype(np.float32)

    def scores(self, users: UserRows, rows: I32, now_ms: int) -> F32:
        """(B, I): see the module's docstring."""
        size, likes = len(users.items), self._contents.likes
        if not len(self._contents):
            return np.zeros((len(rows), size), np.float32)
        likes.reserve(size)
        past, kinds, _ = users.recent(rows, len(self._decays))
        held = actions.is_positive(kinds) & (past > 0)
        weights = np.where(held, self._decays, np.float32(0))
        weights /= np.maximum(weights.sum(axis=1, keepdims=True), np.float32(1e-9))
        user, place = np.nonzero(held)
        had = past[user, place]
        keys = likes.keys[had]
        parts = likes.weights[had] * weights[user, place][:, None]
        cells = user[:, None] * size + keys
        some = keys >= 0
        found = np.bincount(cells[some], parts[some], len(rows) * size)
        return found.reshape(len(rows), size).astype(np.float32)
