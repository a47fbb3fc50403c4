"""Meters of lists. NumPy alone; nothing is sampled, nothing is clipped.

Accuracy is per scored event, from the rank (from 1) of the one item that came; with one right item recall and hit rate
are the same number. A list of K holds ranks below K + 1, so that of two items that share places K and K + 1 (rank
K + 0.5) both count. What lists do to a catalogue is measured over all listed places.
"""

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

_CELLS = 1 << 20  # of vectors gathered at once: 4 MB


def hits(ranks: F64, k: int) -> Bools:
    """Whether each item that came was among the first k: (…,). Their mean is recall@k, and HR@k."""
    return ranks < k + 1


def reciprocal_ranks(ranks: F64, k: int) -> F64:
    """1 / rank among the first k, 0 beyond. Their mean is MRR@k."""
    return np.where(hits(ranks, k), 1 / ranks, 0.0)


def discounted_gains(ranks: F64, k: int) -> F64:
    """1 / log2(1 + rank) among the first k, 0 beyond. Their mean is NDCG@k: with one right item the ideal is 1."""
    return np.where(hits(ranks, k), 1 / np.log2(1 + ranks), 0.0)


def percentile_ranks(ranks: F64, items: int) -> F64:
    """Per cent of the catalogue of `items` that stood before each item that came. Their mean is MPR; chance is 50."""
    return 100 * (ranks - 1) / items


def exposure(lists: I32, items: int) -> I64:
    """How often each item of the catalogue stands in lists (N, K), padded with -1: (items,)."""
    return np.bincount(lists[lists >= 0], minlength=items)


def coverage(exposures: I64) -> float:
    """Share of the catalogue that was listed at least once; NaN of an empty one."""
    return float(np.count_nonzero(exposures) / len(exposures)) if len(exposures) else float("nan")


def gini(exposures: I64) -> float:
    """Gini coefficient of exposures: 0 if all items are listed equally often, 1 - 1 / items if one takes every place;
    NaN if nothing was listed.
    """
    total, size = float(exposures.sum()), len(exposures)
    if not total:
        return float("nan")
    places = 2 * np.arange(1, size + 1) - size - 1
    return float((places * np.sort(exposures)).sum() / (size * total))


def self_information(counts: I64) -> F64:
    """-log2 of each item's share of all events, in bits: (items,). An item without events has `inf`."""
    with np.errstate(divide="ignore"):
        bits: F64 = -np.log2(counts / counts.sum())
    return bits


def novelty(exposures: I64, bits: F64) -> float:
    """Mean self-information of listed places, in bits; NaN if nothing was listed."""
    listed = exposures > 0
    total = exposures.sum()
    return float((exposures[listed] * bits[listed]).sum() / total) if total else float("nan")


def intra_list_distances(lists: I32, vectors: F32) -> F64:
    """Mean of 1 - cosine over all pairs of each list (N, K), padded with -1: (N,), NaN for a list of less than two.

    `vectors` (I, D) have length 1 or 0; an item without one is at distance 1 from every other. Uses
    sum over pairs of a.b = (|sum of all|**2 - sum of |a|**2) / 2: K x D a list, not K x K x D.
    """
    lists_at_once = max(1, _CELLS // max(lists.shape[1] * vectors.shape[1], 1))
    found = np.full(len(lists), np.nan)
    for first in range(0, len(lists), lists_at_once):
        part = slice(first, first + lists_at_once)
        held = lists[part] >= 0
        chosen = vectors[np.maximum(lists[part], 0)] * held[..., None]
        sums = chosen.sum(axis=1, dtype=np.float64)
        squares = np.einsum("nkd,nkd->n", chosen, chosen, dtype=np.float64)
        count = held.sum(axis=1).astype(np.float64)
        pairs = count * (count - 1)
        cosines = (sums * sums).sum(axis=1) - squares
        np.divide(cosines, pairs, out=found[part], where=pairs > 0)
    return 1 - found


def unit_vectors(users: I64, items: I64, size: int, seed: int, most: int = 1024) -> F32:
    """Vectors (size, D) of items by who had them, of length 1, so that a dot product is the cosine of two items'
    readerships. `users` and `items` (P,) are pairs; a pair counts once however often it occurs.

    Up to `most` users: exact, D = users. Beyond: D = `most` random signs a user (seeded), which keeps cosines to about
    1 / sqrt(most), without bias.
    """
    count = int(users.max(initial=-1)) + 1
    pairs = np.unique(items.astype(np.int64) * max(count, 1) + users)
    rows, owners = pairs // max(count, 1), pairs % max(count, 1)
    if count <= most:
        vectors = np.zeros((size, max(count, 1)), np.float32)
        vectors[rows, owners] = 1
    else:
        vectors = _projected(rows, owners, size, most, np.random.default_rng(seed))
    length = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    vectors /= np.maximum(length, np.float32(1e-30))
    return vectors


def _projected(rows: I64, owners: I64, size: int, dim: int, rng: np.random.Generator) -> F32:
    """Sums of seeded sign vectors of each row's owners, a stretch of owners at a time (bounded memory)."""
    vectors = np.zeros((size, dim), np.float32)
    order = np.argsort(owners, kind="stable")
    rows, owners = rows[order], owners[order]
    chunk = 4096
    for first in range(0, int(owners[-1]) + 1, chunk):
        signs = rng.integers(0, 2, (chunk, dim), np.int8).astype(np.float32) * 2 - 1
        span = slice(*np.searchsorted(owners, (first, first + chunk)).tolist())
        np.add.at(vectors, rows[span], signs[owners[span] - first])
    return vectors
