"""Meters again, the slow and plain way: one list at a time, straight from their definitions. Shares no code with
`models.evaluate`.
"""

import math
from collections.abc import Sequence


def rank_of(scores: Sequence[float], target: int, against: bool = True) -> float:
    """Sort candidates by score; the target's place, from 1. NaN is no candidate."""
    others = [s for i, s in enumerate(scores) if i != target and not math.isnan(s)]
    better = [s for s in others if s > scores[target]]
    equal = [s for s in others if s == scores[target]]
    return 1 + len(better) + (len(equal) if against else len(equal) / 2)


def gain(rank: float, k: int) -> float:
    """NDCG@k of a list with one right item, by the sum over places."""
    return sum(1 / math.log2(1 + place) for place in range(1, k + 1) if place == rank)


def gini_of(exposures: Sequence[int]) -> float:
    """Mean absolute difference of all pairs, over twice the mean."""
    n, mean = len(exposures), sum(exposures) / len(exposures)
    return sum(abs(a - b) for a in exposures for b in exposures) / (2 * n * n * mean)


def distance_of(items: Sequence[int], readers: dict[int, set[int]]) -> float:
    """Mean of 1 - cosine of readerships over all pairs of a list."""
    pairs = [(a, b) for i, a in enumerate(items) for b in items[i + 1 :]]
    cosines = [
        len(readers[a] & readers[b]) / math.sqrt(len(readers[a]) * len(readers[b]))
        if readers[a] and readers[b]
        else 0.0
        for a, b in pairs
    ]
    return 1 - sum(cosines) / len(pairs)
