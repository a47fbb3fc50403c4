"""A sequence model as a source of a list's scores (`models.taste.lists.sources`). NumPy alone.

    S(i) = p(i | the reader's ring) / the largest p      p: softmax of the model's scores over the items of the index

which is 1 for the item that is likeliest next. An item that the model has never met, and a reader of whom it knows
nothing, get 0. A model is exchanged between two calls by `use`: states of the old one are never read by the new one.
"""

import numpy as np

from models.sequence.folder import Loaded
from models.sequence.model import F32, I32
from models.sequence.states import States, numbers_of
from models.taste.index import ItemIndex
from models.taste.lists.sources import Weighted
from models.taste.readers.users import UserRows


class SequenceSource:
    """The model that is in use, its readers' states, and its vectors in the order of the item index."""

    name = "sequence"

    def __init__(self, users: UserRows, loaded: Loaded) -> None:
        """`users` are those that `scores` is asked for later: their states are kept."""
        self.states = States(users)
        self.use(loaded)

    @property
    def revision(self) -> str:
        return self.loaded.manifest.revision

    def use(self, loaded: Loaded) -> None:
        """From now on this model."""
        self.loaded = loaded
        size = loaded.model.vocabulary.vectors.shape[1]
        self._covered = 0  # items of the index that are placed in the three below
        self._codes: I32 = np.empty(0, np.int32)  # item index -> number in the vocabulary
        self._vectors: F32 = np.empty((0, size), np.float32)  # in the order of the item index
        self._bias: F32 = np.empty(0, np.float32)  # -inf for items that the model does not know

    def scores(self, users: UserRows, rows: I32, now_ms: int) -> F32:
        self._cover(users.items)
        size = len(users.items)
        queries = self.loaded.model.queries(self.states.of(self.loaded, self._codes[:size], rows))
        known = queries.any(axis=1)
        found: F32 = queries @ self._vectors[:size].T
        found += self._bias[:size]
        top = found.max(axis=1, initial=np.finfo(np.float32).min)
        found -= top[:, None]
        np.exp(found, out=found)
        found[~known] = 0
        return found

    def _cover(self, items: ItemIndex) -> None:
        """Place the vectors of items that were first met since."""
        size, covered = len(items), self._covered
        if covered >= size:
            return
        if len(self._codes) < size:
            self._grow(max(size, 2 * covered))
        vocabulary = self.loaded.model.vocabulary
        self._codes[covered:size] = numbers_of(items.hashes[covered:], vocabulary.hashes)
        held = covered + np.flatnonzero(self._codes[covered:size] >= 0)
        self._vectors[held] = vocabulary.vectors[self._codes[held]]
        self._bias[held] = vocabulary.bias[self._codes[held]]
        self._covered = size

    def _grow(self, size: int) -> None:
        codes, vectors, bias = self._codes, self._vectors, self._bias
        self._codes = np.full(size, -1, np.int32)
        self._vectors = np.zeros((size, vectors.shape[1]), np.float32)
        self._bias = np.full(size, -np.inf, np.float32)
        self._codes[: len(codes)], self._vectors[: len(codes)], self._bias[: len(codes)] = (
            codes,
            vectors,
            bias,
        )


class Newest:
    """The model that came last as a further source of lists; none before there is one."""

    def __init__(self, users: UserRows, weight: float) -> None:
        """`weight` is that of its scores in a list."""
        self._users, self._weight = users, weight
        self.source: SequenceSource | None = None
        self.further: tuple[Weighted, ...] = ()

    def use(self, loaded: Loaded) -> None:
        """From now on this model."""
        if self.source is None:
            self.source = SequenceSource(self._users, loaded)
            self.further = (Weighted(self.source, self._weight),)
        else:
            self.source.use(loaded)
