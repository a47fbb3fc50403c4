"""Item vectors to begin training with: what is had together lies together. NumPy alone.

Pairs within a few events of a reader are counted, w ** distance each; the positive pointwise mutual information of two
items is max(0, log(n_ij n / (n_i n_j))) (Levy, Goldberg 2014), and its largest eigenvectors, times the root of their
eigenvalues, are the vectors. On MovieLens-100K a network that begins there is as good after few rounds as one
that begins with noise after many.
"""

import numpy as np
from numpy.typing import NDArray

from models.train.histories import Histories

F32 = NDArray[np.float32]

NEAR = 10  # events apart
DISCOUNT = 0.9
MOST_ITEMS = 8192  # a square matrix of 256 MB


def first_vectors(histories: Histories, items: int, dim: int, length: float, rng: np.random.Generator) -> F32:
    """(items, dim), of mean length `length`. Beyond MOST_ITEMS, and in what pairs do not tell, they are noise."""
    noise = rng.normal(0, length / np.sqrt(dim), (items, dim))
    if items > MOST_ITEMS:
        return noise.astype(np.float32)
    pairs = _pairs(histories, items)
    total, sums = pairs.sum(), pairs.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mutual = np.log(pairs * (total / (sums[:, None] * sums)))
    mutual[~(mutual > 0)] = 0
    vectors = _largest(mutual, dim, rng)
    size = np.sqrt((vectors * vectors).sum(axis=1)).mean() or 1.0
    return (vectors * (length / size) + 0.1 * noise).astype(np.float32)


def _pairs(histories: Histories, items: int) -> F32:
    """(items, items) symmetric, from training events alone."""
    owner = np.repeat(np.arange(len(histories.starts) - 1), np.diff(histories.starts))
    chosen = np.flatnonzero((histories.parts == 0) & (histories.items >= 0))
    owner, had = owner[chosen], histories.items[chosen].astype(np.int64)
    counts = np.zeros(items * items, np.float32)
    for distance in range(1, NEAR + 1):
        same = owner[distance:] == owner[:-distance]
        cell = had[:-distance][same] * items + had[distance:][same]
        values = np.bincount(cell) * DISCOUNT ** (distance - 1)
        counts[: len(values)] += values.astype(np.float32)
    square = counts.reshape(items, items)
    np.fill_diagonal(square, 0)
    return square + square.T


def _largest(matrix: F32, dim: int, rng: np.random.Generator) -> F32:
    """Vectors (I, dim) whose products come near the symmetric `matrix` (Halko, Martinsson, Tropp 2011)."""
    size = len(matrix)
    wide = min(size, dim + 16)
    basis = rng.normal(size=(size, wide)).astype(np.float32)
    for _ in range(4):
        basis = np.linalg.qr(matrix @ basis)[0]
    values, inner = np.linalg.eigh(basis.T @ matrix @ basis)
    keep = np.argsort(-values)[:dim]
    found = np.zeros((size, dim), np.float32)
    found[:, : len(keep)] = (basis @ inner[:, keep]) * np.sqrt(np.maximum(values[keep], 0))
    # signs of eigenvectors are the library's choice: make them ours
    found *= np.where(np.take_along_axis(found, np.abs(found).argmax(axis=0)[None], 0) < 0, -1, 1)
    return found
