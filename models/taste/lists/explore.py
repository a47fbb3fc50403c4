"""One place of a list for an item that few have been shown: Thompson sampling with its exact propensity. NumPy alone.

An item's unknown rate of clicks has the density Beta(1 + clicks, 1 / ctr0 + impressions - clicks). Thompson sampling
shows each candidate with the probability that its rate is the largest. That probability is computed here (a product of
distribution functions, summed over a grid), and one number in [0, 1) picks the item from it: so what is logged as
propensity is the very probability that was used, and the same number picks the same item.

    p_i = sum over x of f_i(x) * product over other candidates j of F_j(x)

Thompson, "On the likelihood that one unknown probability exceeds another", Biometrika 1933.
"""

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Bools = NDArray[np.bool_]

POOL = 64  # candidates of one moment at most
_POINTS = 512  # of the grid
_GOLDEN = 0x9E3779B97F4A7C15


def draws(partitions: NDArray[np.int32], offsets: I64, salt: int = 0) -> F64:
    """Numbers (N,) in [0, 1), a function of the source record alone (splitmix64 twice): a replay draws the same.
    Another `salt` gives numbers that know nothing of these.
    """
    base = np.uint64(_GOLDEN * (salt + 1) & (2**64 - 1))
    z = _mixed(partitions.astype(np.uint64) + base) + offsets.astype(np.uint64)
    numbers: F64 = (_mixed(z * np.uint64(_GOLDEN)) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return numbers


def pool(clicks: F32, impressions: F32, newest_at_ms: I64, listable: Bools, below: float) -> I64:
    """Up to POOL items (P,) with fewer exposures than `below`: the least exposed, of equal ones the newest.

    An item with more clicks than impressions has been shown at least as often as it was clicked.
    """
    shown = np.maximum(impressions, clicks)
    found = np.flatnonzero(listable & (shown < below))
    order = np.lexsort((found, -newest_at_ms[found], shown[found]))
    return found[order[:POOL]]


def chances(clicks: F32, impressions: F32, allowed: Bools, ctr0: float) -> F64:
    """(B, P) the probability that each allowed candidate (B, P) has the largest rate; a row adds up to 1, or to 0 where
    none is allowed. clicks, impressions (P,) decayed sums."""
    density = _densities(clicks.astype(np.float64), impressions.astype(np.float64), ctr0)
    below = np.cumsum(density, axis=1) - density / 2
    log_below = np.log(np.maximum(below, 1e-300))
    ratio = np.divide(density, below, out=np.zeros_like(density), where=below > 1e-300)  # at most 2
    found = np.exp(allowed.astype(np.float64) @ log_below) @ ratio.T
    found[~allowed] = 0
    total = found.sum(axis=1, keepdims=True)
    lost = (total[:, 0] <= 0) & allowed.any(axis=1)  # beyond what doubles hold: all alike
    found[lost] = allowed[lost]
    total = found.sum(axis=1, keepdims=True)
    shares: F64 = np.divide(found, total, out=np.zeros_like(found), where=total > 0)
    return shares


def pick(shares: F64, numbers: F64) -> tuple[I64, F64]:
    """The candidate (B,) that each number in [0, 1) falls on, -1 where there is none, and its probability (B,)."""
    ends = np.cumsum(shares, axis=1)
    some = ends[:, -1] > 0 if shares.shape[1] else np.zeros(len(shares), np.bool_)
    if not some.any():
        return np.full(len(shares), -1, np.int64), np.zeros(len(shares))
    found = (ends <= (numbers * ends[:, -1])[:, None]).sum(axis=1)
    last = shares.shape[1] - 1 - (shares[:, ::-1] > 0).argmax(axis=1)
    found = np.minimum(found, last)
    found[~some] = -1
    chance = np.where(some, shares[np.arange(len(shares)), np.maximum(found, 0)], 0.0)
    return found, chance


def expected(clicks: F32, impressions: F32, ctr0: float) -> F32:
    """The mean rate of clicks (P,)."""
    first, second = _shape(clicks.astype(np.float64), impressions.astype(np.float64), ctr0)
    return (first / (first + second)).astype(np.float32)


def _shape(clicks: F64, impressions: F64, ctr0: float) -> tuple[F64, F64]:
    return 1.0 + clicks, 1 / ctr0 + np.maximum(impressions - clicks, 0.0)


def _densities(clicks: F64, impressions: F64, ctr0: float) -> F64:
    """(P, points) of Beta over x = t**2, adding up to 1: finer where rates are small."""
    t = (np.arange(_POINTS) + 0.5) / _POINTS
    first, second = _shape(clicks, impressions, ctr0)
    logs = (first[:, None] - 1) * 2 * np.log(t) + (second[:, None] - 1) * np.log1p(-(t**2)) + np.log(t)
    found: F64 = np.exp(logs - logs.max(axis=1, keepdims=True))
    found /= found.sum(axis=1, keepdims=True)
    return found


def _mixed(z: U64) -> U64:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
