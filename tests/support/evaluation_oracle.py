"""Meters again, the slow and plain way: one list at a time, straight from their definitions. Shares no code with
`models.evaluate`.
"""

import math
from collections.abc import Sequence
from itertools import pairwise


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


Pair = tuple[str, str]
"""User and item of one positive event, in arrival order."""


def popularity(past: Sequence[Pair], user: str, items: Sequence[str]) -> dict[str, float]:
    return {item: float(sum(i == item for _, i in past)) for item in items}


def last_item(past: Sequence[Pair], user: str, items: Sequence[str]) -> dict[str, float]:
    had: dict[str, list[str]] = {}
    for who, item in past:
        had.setdefault(who, []).append(item)
    steps = [step for mine in had.values() for step in pairwise(mine)]
    return {item: float(steps.count((had[user][-1], item))) for item in items}


def item_knn(past: Sequence[Pair], user: str, items: Sequence[str]) -> dict[str, float]:
    readers = {item: {who for who, i in past if i == item} for item in items}
    mine = {item for who, item in past if who == user}
    return {
        item: sum(
            len(readers[j] & readers[item]) / math.sqrt(len(readers[j]) * len(readers[item]))
            for j in mine
            if readers[item]
        )
        for item in items
    }


def tested_then_learnt(
    events: Sequence[Pair], start: int, own_out: bool
) -> list[tuple[int, dict[str, tuple[int, int]]]]:
    """(event number, {rule: (best, worst) rank}) of every event that is scored, from the definitions alone.

    `worst` is with ties against us; down to `best` for scores that differ by rounding alone.
    """
    items = list(dict.fromkeys(item for _, item in events))
    found = []
    for number, (user, item) in enumerate(events):
        past = events[:number]
        had = {i for who, i in past if who == user}
        if number < start or not had or (own_out and item in had):
            continue
        ranks = {}
        for name, rule in (("popularity", popularity), ("last-item", last_item), ("item-knn", item_knn)):
            scores = rule(past, user, items)
            others = [i for i in items if i != item and not (own_out and i in had)]
            ahead = [scores[i] - scores[item] for i in others]
            ranks[name] = (1 + sum(d > 1e-5 for d in ahead), 1 + sum(d >= -1e-5 for d in ahead))
        found.append((number, ranks))
    return found
