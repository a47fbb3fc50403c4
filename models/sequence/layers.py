"""Pieces that both networks are made of. NumPy alone; the same arithmetic as torch's, to rounding."""

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
