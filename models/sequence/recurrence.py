"""A linear recurrence with real decays: O(1) an event, 1 KB a reader (Orvieto et al. 2023; Yue et al. 2024).

    x      = E[item]
    layer  h <- decay * h + sqrt(1 - decay^2) * (W_in x + b_in)        decay in (0, LONGEST]
           y  = LN(W_out h + x)
           x <- LN(W_2 gelu(W_1 y + c_1) + c_2 + y)
    score  = x . E[i] + bias[i]

The state holds each layer's h and the last x. LONGEST bounds the decays so that what has left a ring of 64 weighs less
than 1e-4: a state built from the ring is the state that was stepped since ever, to that. NumPy alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.sequence.layers import Above, Tensors
from models.sequence.model import F32, I32, U64, Bools, State, Vocabulary

LONGEST = 0.866  # ** 64 = 1e-4
DIM = 64
HIDDEN = 96  # 2 layers of it and DIM: 256 numbers, 1 KB
LAYERS = 2
INNER = 128


@dataclass(frozen=True, slots=True)
class _Layer:
    decay: F32  # (H,)
    into: F32  # (D, H), scaled by sqrt(1 - decay^2)
    into_bias: F32  # (H,), scaled alike
    out: F32  # (H, D)
    rest: Above

    @classmethod
    def of(cls, tensors: Tensors) -> "_Layer":
        decay = decays(tensors["nu"])
        scale = np.sqrt(1 - decay * decay)
        return cls(
            decay=decay,
            into=np.ascontiguousarray(tensors["into.weight"].T * scale),
            into_bias=tensors["into.bias"] * scale,
            out=tensors.turned("out.weight"),
            rest=Above.of(tensors),
        )

    def above(self, hidden: F32, x: F32) -> F32:
        """What the next layer reads, from h (..., H) and this layer's input (..., D)."""
        return self.rest(hidden @ self.out + x)


class Recurrence:
    """The recurrence as it serves."""

    kind = "recurrence"
    windowed = False

    def __init__(self, tensors: Mapping[str, F32], hashes: U64) -> None:
        """`tensors` as `shapes` says. Raises ValueError for decays outside (0, LONGEST]."""
        self.vocabulary = Vocabulary(hashes, tensors["items.weight"], tensors["bias"])
        count = sum(name.endswith(".nu") for name in tensors)
        self._layers: Sequence[_Layer] = [_Layer.of(Tensors(tensors, number)) for number in range(count)]
        self._hidden = len(self._layers[0].decay)
        self._dim = self.vocabulary.vectors.shape[1]
        self.width = len(self._layers) * self._hidden + self._dim
        first = self._layers[0]
        self._first: F32 = (
            self.vocabulary.vectors @ first.into + first.into_bias
        )  # (V, H): a step looks it up

    def begin(self, readers: int) -> State:
        return np.zeros((readers, self.width), np.float32)

    def step(self, state: State, items: I32) -> State:
        found = state.copy()
        some = np.flatnonzero(items >= 0)
        chosen = items[some]
        x = self.vocabulary.vectors[chosen]
        fed = self._first[chosen]
        for number, layer in enumerate(self._layers):
            place = slice(number * self._hidden, (number + 1) * self._hidden)
            hidden = layer.decay * state[some, place] + (
                fed if number == 0 else x @ layer.into + layer.into_bias
            )
            found[some, place] = hidden
            x = layer.above(hidden, x)
        found[some, -self._dim :] = x
        return found

    def replay(self, items: I32) -> State:
        readers, length = items.shape
        found = self.begin(readers)
        held = items >= 0
        if not held.any():
            return found
        chosen = np.maximum(items, 0)
        x, fed = self.vocabulary.vectors[chosen], self._first[chosen]
        last = length - 1 - held[:, ::-1].argmax(axis=1)
        everyone = np.arange(readers)
        for number, layer in enumerate(self._layers):
            if number:
                fed = x @ layer.into + layer.into_bias
            hidden = _scan(fed, layer.decay, held)
            found[:, number * self._hidden : (number + 1) * self._hidden] = hidden[:, -1]
            if number + 1 < len(self._layers):
                x = layer.above(hidden, x)
            else:  # of the last layer the last event is enough
                x = layer.above(hidden[everyone, last], x[everyone, last])
        some: Bools = held.max(axis=1)
        found[:, -self._dim :] = np.where(some[:, None], x, 0)
        return found

    def queries(self, state: State) -> F32:
        found: F32 = state[:, -self._dim :]
        return found


def decays(nu: F32) -> F32:
    """Decays (H,) in (0, LONGEST) from free numbers."""
    found: F32 = (np.float32(LONGEST) / (1 + np.exp(-nu))).astype(np.float32)
    return found


def shapes(
    items: int, dim: int = DIM, hidden: int = HIDDEN, inner: int = INNER
) -> dict[str, tuple[int, ...]]:
    """Tensor -> shape of a network for so many items."""
    found: dict[str, tuple[int, ...]] = {"items.weight": (items, dim), "bias": (items,)}
    for number in range(LAYERS):
        for name, shape in (
            ("nu", (hidden,)),
            ("into.weight", (hidden, dim)),
            ("into.bias", (hidden,)),
            ("out.weight", (dim, hidden)),
            ("norm_1.weight", (dim,)),
            ("norm_1.bias", (dim,)),
            ("inner.weight", (inner, dim)),
            ("inner.bias", (inner,)),
            ("outer.weight", (dim, inner)),
            ("outer.bias", (dim,)),
            ("norm_2.weight", (dim,)),
            ("norm_2.bias", (dim,)),
        ):
            found[f"layers.{number}.{name}"] = shape
    return found


def _scan(fed: F32, decay: F32, held: Bools) -> F32:
    """h (B, T, H) after each event, from what each feeds in; where none is `held`, h stays."""
    hidden = np.empty_like(fed)
    h = np.zeros((len(fed), len(decay)), np.float32)
    for t in range(fed.shape[1]):
        h = np.where(held[:, t, None], decay * h + fed[:, t], h)
        hidden[:, t] = h
    return hidden
