"""The one interface of sequence models: a state a reader, a step an event, scores of all items.

Items are numbered 0..V-1 in the order of the model's own vocabulary (`Vocabulary.hashes`); -1 stands for no event: it
changes nothing, so that histories of different lengths share one array. States are rows of an array: they can be kept
in columns, gathered and put back, and mean nothing under another model.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
U64 = NDArray[np.uint64]
Bools = NDArray[np.bool_]
State = NDArray[Any]
"""(B, width) of the model's dtype."""

WINDOW = 64  # events of a ring, and of a window in training


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The items that a model knows."""

    hashes: U64  # (V,) of their names, see models.taste.index
    vectors: F32  # (V, D)
    bias: F32  # (V,)


class SequenceModel(Protocol):
    """What both networks can do. Pure: nothing but the given state enters an answer."""

    kind: str
    vocabulary: Vocabulary
    width: int
    """Numbers of one reader's state, 4 bytes each."""
    windowed: bool
    """Whether the state is the last events themselves: then there is nothing to gain by keeping it beside a ring."""

    def begin(self, readers: int) -> State:
        """States (B, width) of readers without history."""
        ...

    def step(self, state: State, items: I32) -> State:
        """States (B, width) after one more event each: items (B,), -1 none. `state` is left as it was."""
        ...

    def replay(self, items: I32) -> State:
        """States (B, width) after histories (B, T), oldest first, -1 anywhere: what T steps give, to rounding."""
        ...

    def queries(self, state: State) -> F32:
        """(B, D): with the vocabulary's vectors and bias, the scores. Zeros where nothing has happened yet."""
        ...


def scores(model: SequenceModel, state: State) -> F32:
    """Scores (B, V), logits of the next item."""
    found: F32 = model.queries(state) @ model.vocabulary.vectors.T + model.vocabulary.bias
    return found
