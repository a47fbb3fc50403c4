"""A calibrated blend: what parts of a score weigh is learnt from what readers chose, one bounded step a choice.

    part s of item i, as three features:  z = s / max s,  sqrt z,  log(1 + z / EPS) / log(1 + 1 / EPS)
    score(i)  = sum over features f of w_f * x_f(i)              log-odds of the choice, up to a constant
    P(i)      = exp score(i) / sum over all items that could have been chosen

The step is that of the likelihood of the item that was chosen, with AdaGrad's division by the root of the sum of its
squares: no weight moves by more than `rate` a choice, however odd the choice. A linear sum, so a part's share of a
score is exact: its three features together. Weights are a function of the choices in their order, and two numbers a
feature are the whole state. Without learning, weights stay as given. NumPy alone.

What a part is worth differs by situation (`models.taste.learnt.situations`): of a newcomer one knows the last item, of
an old reader the taste. So every situation that a choice is in adds weights of its own, which begin at 0:

    w_f = shared_f + sum over the situations s of the choice of own_sf
"""

import math
import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.errors import BadInput

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

EPS = 0.003  # of a part's largest score: below that, differences hardly count
FORMS = 3  # features a part
_HEAD = struct.Struct("<4sHHq")  # magic, version, features, choices
_MAGIC, _VERSION = b"HRBW", 1
_LONGEST = np.float32(1 / math.log(1 + 1 / EPS))


def spread(parts: F32) -> F32:
    """Features (P * 3, N) of P parts' scores (P, N), in 0..1. What is not above 0, or not finite, says nothing: 0.

    A part's largest score may be infinite no more than any other: such a score counts as nothing.
    """
    found = np.zeros((len(parts), FORMS, parts.shape[1]), np.float32)
    z = np.where(np.isfinite(parts), np.maximum(parts, 0), np.float32(0))
    largest = z.max(axis=1, initial=0, keepdims=True)
    np.divide(z, largest, out=found[:, 0], where=largest > 0)
    np.sqrt(found[:, 0], out=found[:, 1])
    np.log1p(found[:, 0] * np.float32(1 / EPS), out=found[:, 2])
    found[:, 2] *= _LONGEST
    return found.reshape(-1, parts.shape[1])


class Blend:
    """Weights of F features: `weights` holds the F shared ones, then F of each situation. Not thread-safe."""

    def __init__(self, weights: Sequence[float] | F64, rate: float = 0.1, situations: int = 0) -> None:
        """`weights` (F,) are the shared ones, `rate` bounds a step; 0 keeps the weights as they are. Raises ValueError
        for numbers that are not finite, a rate below 0 or a negative number of situations."""
        shared: F64 = np.array(weights, np.float64)
        if not np.isfinite(shared).all() or not (math.isfinite(rate) and rate >= 0):
            raise ValueError("weights must be finite, and the rate finite and not below 0")
        if situations < 0:
            raise ValueError("there cannot be less than no situation")
        self.features = len(shared)
        self.weights: F64 = np.concatenate([shared, np.zeros(self.features * situations)])
        self.rate = rate
        self.choices = 0
        self._squares: F64 = np.ones(len(self.weights))

    def scores(self, features: F32, situations: Sequence[int] = ()) -> F32:
        """(N,) of the items with these features (F, N), in these situations."""
        found: F32 = self._weights_in(situations) @ features
        return found

    def learn(self, features: F32, chosen: int, possible: Bools, situations: Sequence[int] = ()) -> None:
        """A reader took item `chosen` of those `possible` (N,), with these features (F, N), in distinct situations. A
        choice that was not possible, or the only one possible, says nothing."""
        if not self.rate or not possible[chosen] or np.count_nonzero(possible) < 2:
            return
        scores = np.where(possible, self.scores(features, situations), -np.inf)
        chance = np.exp(scores - scores.max())
        chance /= chance.sum()
        chance[chosen] -= 1
        slope = (features @ chance.astype(np.float32)).astype(np.float64)
        for block in (0, *(1 + situation for situation in situations)):
            mine = slice(block * self.features, (block + 1) * self.features)
            self._squares[mine] += slope * slope
            self.weights[mine] -= self.rate * slope / np.sqrt(self._squares[mine])
        self.choices += 1

    def _weights_in(self, situations: Sequence[int]) -> F32:
        """(F,) shared and own ones together."""
        table = self.weights.reshape(-1, self.features)
        found: F64 = table[0] + table[[1 + situation for situation in situations]].sum(axis=0)
        return found.astype(np.float32)

    def encode(self) -> bytes:
        """The whole state."""
        head = _HEAD.pack(_MAGIC, _VERSION, len(self.weights), self.choices)
        return head + self.weights.tobytes() + self._squares.tobytes()

    def load(self, value: bytes) -> None:
        """Take an encoded state. Raises BadInput("blend_layout") for another layout or numbers that no blend has; the
        state is then unchanged."""
        size = len(self.weights)
        if len(value) != _HEAD.size + 16 * size:
            raise BadInput("blend_layout", f"{len(value)} bytes are not a blend of {size} features")
        magic, version, count, choices = _HEAD.unpack_from(value)
        numbers = np.frombuffer(value, np.float64, 2 * size, _HEAD.size)
        sound = np.isfinite(numbers).all() and (numbers[size:] >= 1).all() and choices >= 0
        if (magic, version, count) != (_MAGIC, _VERSION, size) or not sound:
            raise BadInput("blend_layout", "not a blend, or of another version")
        self.weights, self._squares = numbers[:size].copy(), numbers[size:].copy()
        self.choices = choices
