"""Causal self-attention over the last 64 events (Vaswani et al. 2017; Kang, McAuley 2018). The state is those events.

    x      = E[item]
    layer  o  = x + softmax(Q K' / sqrt(d) + near[distance] + causal) V      Q = x W_q, K = x W_k, V = x W_v
           y  = LN(o)
           x <- LN(W_2 gelu(W_1 y + c_1) + c_2 + y)
    score  = x . E[i] + bias[i]

`near` is learned by distance in events, so that the same event at the same distance counts alike wherever the window
begins. Events that have left the window are gone, by definition: state from the ring is the stepped state exactly.
NumPy alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models.sequence.layers import Above, Tensors, softmax
from models.sequence.model import F32, I32, U64, WINDOW, Bools, State, Vocabulary

DIM = 64
LAYERS = 2
INNER = 128
_READERS = 64  # attended at once: scores of 64 x 64 x 64 numbers, 1 MB


@dataclass(frozen=True, slots=True)
class _Layer:
    query: F32  # (D, D), x W
    key: F32
    value: F32
    near: F32  # (WINDOW,)
    above: Above

    @classmethod
    def of(cls, tensors: Tensors) -> "_Layer":
        return cls(
            query=tensors.turned("query.weight"),
            key=tensors.turned("key.weight"),
            value=tensors.turned("value.weight"),
            near=tensors["near"],
            above=Above.of(tensors),
        )


class Attention:
    """Attention as it serves."""

    kind = "attention"
    windowed = True
    width = WINDOW

    def __init__(self, tensors: Mapping[str, F32], hashes: U64) -> None:
        """`tensors` as `shapes` says."""
        self.vocabulary = Vocabulary(hashes, tensors["items.weight"], tensors["bias"])
        count = sum(name.endswith(".near") for name in tensors)
        self._layers = [_Layer.of(Tensors(tensors, number)) for number in range(count)]

    def begin(self, readers: int) -> State:
        return np.full((readers, WINDOW), -1, np.int32)

    def step(self, state: State, items: I32) -> State:
        found = state.copy()
        some = np.flatnonzero(items >= 0)
        found[some, :-1] = state[some, 1:]
        found[some, -1] = items[some]
        return found

    def replay(self, items: I32) -> State:
        """The last WINDOW events of each row, moved to the end."""
        order = np.argsort(items >= 0, axis=1, kind="stable")  # no event first, events in their order
        moved = np.take_along_axis(items, order, 1)[:, -WINDOW:].astype(np.int32)
        found = self.begin(len(items))
        found[:, WINDOW - moved.shape[1] :] = moved
        return found

    def queries(self, state: State) -> F32:
        parts = [self._queries(state[i : i + _READERS]) for i in range(0, len(state), _READERS)]
        return np.concatenate(parts) if parts else np.empty((0, self.vocabulary.vectors.shape[1]), np.float32)

    def _queries(self, state: State) -> F32:
        held = state >= 0
        length = max(1, int(held.sum(axis=1).max(initial=0)))
        state, held = state[:, -length:], held[:, -length:]
        x = self.vocabulary.vectors[np.maximum(state, 0)]
        ago = np.arange(length)
        for number, layer in enumerate(self._layers):
            top = (
                x[:, -1:] if number + 1 == len(self._layers) else x
            )  # of the last layer the last event is enough
            distance = ago[-top.shape[1] :, None] - ago
            mask = np.where(distance >= 0, layer.near[np.abs(distance)], np.float32(-np.inf))
            barred = np.where(held, np.float32(0), np.float32(-1e9))[
                :, None, :
            ]  # finite: an empty row has shares
            x = layer.above(attend(top, x, layer.query, layer.key, layer.value, mask + barred))
        some: Bools = held.max(axis=1)
        return np.where(some[:, None], x[:, -1], np.float32(0))


def attend(top: F32, x: F32, query: F32, key: F32, value: F32, mask: F32) -> F32:
    """top + softmax(Q K' / sqrt(d) + mask) V for events `top` (B, S, D) that look at `x` (B, T, D); weights (D, d) and
    for the values (D, D), mask (S, T) or (B, S, T)."""
    keys = x @ key
    scale = np.float32(keys.shape[2] ** -0.5)
    shares = softmax((top @ query) @ keys.swapaxes(1, 2) * scale + mask)
    found: F32 = top + shares @ (x @ value)
    return found


def shapes(items: int, dim: int = DIM, inner: int = INNER) -> dict[str, tuple[int, ...]]:
    """Tensor -> shape of a network for so many items."""
    found: dict[str, tuple[int, ...]] = {"items.weight": (items, dim), "bias": (items,)}
    for number in range(LAYERS):
        for name, shape in (
            ("query.weight", (dim, dim)),
            ("key.weight", (dim, dim)),
            ("value.weight", (dim, dim)),
            ("near", (WINDOW,)),
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
