"""Pieces that both networks are made of. NumPy alone; the same arithmetic as torch's, to rounding."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

_EPSILON = np.float32(1e-5)  # torch's
_ROOT = np.float32(0.7978845608028654)  # sqrt(2 / pi)
_CUBIC = np.float32(0.044715)


def layer_norm(x: F32, weight: F32, bias: F32) -> F32:
    """x (..., D) with mean 0 and variance 1 along D, then scaled and moved (Ba, Kiros, Hinton 2016)."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    found: F32 = centred / np.sqrt(variance + _EPSILON) * weight + bias
    return found


def gelu(x: F32) -> F32:
    """The Gaussian error linear unit in its tanh form (Hendrycks, Gimpel 2016)."""
    found: F32 = np.float32(0.5) * x * (1 + np.tanh(_ROOT * (x + _CUBIC * x * x * x)))
    return found


def softmax(x: F32) -> F32:
    """Shares (..., N) that add up to 1; `-inf` gets 0."""
    risen = np.exp(x - x.max(axis=-1, keepdims=True))
    found: F32 = risen / risen.sum(axis=-1, keepdims=True)
    return found


@dataclass(frozen=True, slots=True)
class Tensors:
    """Those of one layer, by their names in it."""

    all: Mapping[str, F32]
    number: int

    def __getitem__(self, name: str) -> F32:
        return self.all[f"layers.{self.number}.{name}"]

    def turned(self, name: str) -> F32:
        """A matrix as x @ matrix takes it."""
        return np.ascontiguousarray(self[name].T)


@dataclass(frozen=True, slots=True)
class Above:
    """What stands above a layer's own part in both networks: y = LN(x), then LN(W_2 gelu(W_1 y + c_1) + c_2 + y)."""

    norm_1: tuple[F32, F32]
    inner: F32  # (D, N)
    inner_bias: F32
    outer: F32  # (N, D)
    outer_bias: F32
    norm_2: tuple[F32, F32]

    @classmethod
    def of(cls, tensors: Tensors) -> "Above":
        return cls(
            norm_1=(tensors["norm_1.weight"], tensors["norm_1.bias"]),
            inner=tensors.turned("inner.weight"),
            inner_bias=tensors["inner.bias"],
            outer=tensors.turned("outer.weight"),
            outer_bias=tensors["outer.bias"],
            norm_2=(tensors["norm_2.weight"], tensors["norm_2.bias"]),
        )

    def __call__(self, x: F32) -> F32:
        """What the next layer reads, from x (..., D)."""
        y = layer_norm(x, *self.norm_1)
        wide = gelu(y @ self.inner + self.inner_bias)
        return layer_norm(wide @ self.outer + self.outer_bias + y, *self.norm_2)
