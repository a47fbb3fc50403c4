"""The k best items of each reader, exactly: equal scores by item, the lower first. Compiled.

    score(i) = base(i) + wanted . sketch(i)

A sketch is at most of length 1, so an item whose base is further below the k-th best score than |wanted| is not among
the best: of most items the product is never made. For the rest one of small integers, to a bound, tells most of those
that are not, at a fraction of the cost. `best_of_all` is given all bases; `of_followers` makes those of items with
counts, and of the others, whose base is popularity alone, looks at the most popular one of each block first. So bounds
decide how much work is done, never what is found.

No sum depends on who else is in the batch.
"""

import math

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled, part

F32 = NDArray[np.float32]
I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

Taste = tuple[F32, F32, float, I8, I8, float, float]
"""Of a reader: the vector (D,), all sketches (I, D), the most that a product can be; both vectors as small integers,
what their product is multiplied with, and how far it is from the other at most."""

BLOCK = 64  # items that are looked at together
STEPS = 127  # to 1, of vectors as small integers
_ROUNDING = 2e-6  # of a score and of a bound: more than sums of float32 differ by


def top_k(scores: F32, k: int) -> tuple[I32, F32]:
    """The k best columns of each row (B, I) and their scores, -1 and 0 padded; -inf is never taken."""
    nothing = np.zeros((len(scores), 0), np.float32)
    sketches = np.zeros((scores.shape[1], 0), np.float32)
    return best_of_all(scores, nothing, sketches, sketches.astype(np.int8), k)


def best_of_all(base: F32, wanted: F32, sketches: F32, rough: I8, k: int) -> tuple[I32, F32]:
    """The k best of all items: `base` (B, I), -inf for those not to be taken, `wanted` (B, D), `sketches` (I, D) or
    more, and `rough`, the same in STEPS to 1. Items (B, k) and scores, -1 and 0 padded."""
    items, scores = np.empty((len(base), k), np.int32), np.empty((len(base), k), np.float32)
    _of_all(np.ascontiguousarray(base), wanted, sketches, rough, items, scores)
    return items, scores


@part
def _product(one: F32, other: F32) -> np.float32:
    """Of vectors (D,), one place after another: the processor works at those of several items at once."""
    total = np.float32(0)
    for place in range(len(one)):
        total += one[place] * other[place]
    return total


@part
def _rough_product(one: I8, other: I8) -> np.int32:
    """Of vectors (D,) of small integers, whose order does not matter."""
    total = np.int32(0)
    for place in range(len(one)):
        total += np.int32(one[place]) * np.int32(other[place])
    return total


@part
def _put(items: I32, scores: F32, count: int, item: int, score: np.float32) -> int:
    """Into the best so far, `count` of them in order, what is better than the last; how many there are then."""
    k = len(items)
    if count == k:
        if k == 0 or score < scores[k - 1] or (score == scores[k - 1] and item > items[k - 1]):
            return count
        at = k - 1
    else:
        at, count = count, count + 1
    while at > 0 and (scores[at - 1] < score or (scores[at - 1] == score and items[at - 1] > item)):
        items[at], scores[at] = items[at - 1], scores[at - 1]
        at -= 1
    items[at], scores[at] = item, score
    return count


@part
def _reaching(values: F32, bar: np.float32) -> int:
    """How many of these reach the bar."""
    count = 0
    for at in range(len(values)):
        count += values[at] >= bar
    return count


@part
def _floor(bar: np.float32, bound: float) -> np.float32:
    """A base below this comes to no score of `bar` or more."""
    if bar == -np.inf:
        return bar
    return np.float32(bar - bound - _ROUNDING * (abs(bar) + bound))


@part
def _length(vector: F32) -> float:
    total = 0.0
    for place in range(len(vector)):
        total += float(vector[place]) * float(vector[place])
    return math.sqrt(total)


@part
def _taste(wanted: F32, sketches: F32, rough: I8, small: I8) -> Taste:
    """All that products of one reader take. Sets `small` (D,) to the vector w in steps, w'; with sketches v and v' in
    theirs |w . v - w' . v'| <= |w - w'| |v| + |w'| |v - v'|."""
    largest, bound = 0.0, _length(wanted)
    for place in range(len(wanted)):
        largest = max(largest, float(abs(wanted[place])))
    step = largest / STEPS
    for place in range(len(wanted)):
        small[place] = np.int8(np.rint(wanted[place] / step)) if step > 0 else np.int8(0)
    off = 0.5 * math.sqrt(len(wanted))  # steps, of both
    near = off * step + (bound + off * step) * off / STEPS
    return wanted, sketches, bound, small, rough, step / STEPS, near * (1 + 1e-5)


@part
def _choose(
    bases: F32, ids: I32, n: int, taste: Taste, k: int, its: I32, found: F32
) -> tuple[int, np.float32]:
    """Of distinct items `ids` (n,) with these bases, what may be among the k best, in `its` with its scores in `found`:
    how many, and a bar that k of them reach, -inf if they are fewer. Some k of the best bases come first, so that few
    of the others can be as good."""
    least = _about_best(bases, n, k)
    nothing, everything = np.float32(-np.inf), np.float32(np.inf)
    m, bar = _take(bases, ids, n, least, everything, taste, k, 0, nothing, its, found)
    if least > -np.inf:
        bar = max(bar, _about_best(found, m, k))
        m, bar = _take(bases, ids, n, nothing, least, taste, k, m, bar, its, found)
    return m, bar


@part
def _take(
    bases: F32, ids: I32, n: int, least: np.float32, below: np.float32, taste: Taste, k: int,
    m: int, bar: np.float32, its: I32, found: F32,
) -> tuple[int, np.float32]:  # fmt: skip
    """The same for bases of `least` or more, but below the other, behind the m that were found."""
    wanted, sketches, bound, small, rough, unit, near = taste
    due = 2 * m + BLOCK
    least, tight = max(least, _floor(bar, bound)), _floor(bar, near)
    for start in range(0, n, BLOCK):
        stop = min(start + BLOCK, n)
        if not _reaching(bases[start:stop], least):
            continue
        for at in range(start, stop):
            base = bases[at]
            if least <= base < below and base > -np.inf:
                if base + unit * _rough_product(small, rough[ids[at]]) < tight:
                    continue
                its[m], found[m] = ids[at], base + _product(wanted, sketches[ids[at]])
                m += found[m] >= bar
        if m >= due:
            due, bar = 2 * m, max(bar, _about_best(found, m, k))
            least, tight = max(least, _floor(bar, bound)), _floor(bar, near)
    return m, bar


@part
def _finish(its: I32, found: F32, m: int, bar: np.float32, items: I32, scores: F32) -> None:
    """The k best of what was found, in order."""
    bar, count = max(bar, _about_best(found, m, len(items))), 0
    for at in range(m):
        if found[at] >= bar:
            count = _put(items, scores, count, its[at], found[at])
    items[count:] = -1
    scores[count:] = 0


@part
def _about_best(values: F32, n: int, k: int) -> np.float32:
    """What k of the values (n,) reach, and few more: the k-th best of the maxima of some groups of them; -inf where
    there are too few."""
    groups = BLOCK * (1 + k // 48)  # of which some hold several of the best
    maxima = np.full(groups, -np.inf, np.float32)
    for start in range(0, n, groups):
        some = values[start : min(start + groups, n)]
        for group in range(len(some)):
            if some[group] > maxima[group]:
                maxima[group] = some[group]
    least = np.float32(-np.inf)
    for group in range(groups):
        if maxima[group] > least and _reaching(maxima, maxima[group]) >= k:
            least = maxima[group]
    return least


@compiled(
    "void(float32[:, ::1], float32[:, ::1], float32[:, ::1], int8[:, ::1], int32[:, ::1], float32[:, ::1])"
)
def _of_all(base: F32, wanted: F32, sketches: F32, rough: I8, items: I32, scores: F32) -> None:
    batch, size = base.shape
    ids, k = np.arange(size).astype(np.int32), items.shape[1]
    small = np.empty(wanted.shape[1], np.int8)
    its, found = np.empty(size + 1, np.int32), np.empty(size + 1, np.float32)
    for reader in range(batch):
        taste = _taste(wanted[reader], sketches, rough, small)
        m, bar = _choose(base[reader], ids, size, taste, k, its, found)
        _finish(its, found, m, bar, items[reader], scores[reader])


@compiled(
    "void(int32[:, ::1], float32[:, ::1], int32[:, ::1], float32[:, ::1], float32[::1], float32[::1], float32[::1], "
    "float32[:, ::1], int8[:, ::1], boolean[::1], int64[:, ::1], boolean, float32[::1], float32[:, ::1], float32[::1], "
    "int32[:, ::1], float32[:, ::1])"
)
def of_followers(
    past: I32, heads: F32, keys: I32, weights: F32, column: F32, popularity: F32, peaks: F32, sketches: F32,
    rough: I8, barred: Bools, pairs: I64, scaled: bool, sums: F32, wanted: F32, weight: F32, items: I32, scores: F32,
) -> None:  # fmt: skip
    """Set `items` (B, k) and `scores` to the best, -1 and 0 padded, and bring `wanted` (B, D) and `weight` (B,) of
    popularity to the scale of each reader's counts (`weight` if `scaled`).

    A base is the counts, sums over past items (B, W) of `heads` (B, W) times the `weights` (R, F) of their followers
    `keys`, times the `column` (I,) of the item, plus `weight` times `popularity` (I,), of whose blocks `peaks` are the
    largest. Not to be taken: `barred` (I,), and pairs (P, 2) of reader and item. `sums` (I,) are 0, before and after.
    """
    (batch, window), k = past.shape, items.shape[1]
    own, begins = _by_reader(pairs, batch, len(column))
    small = np.empty(wanted.shape[1], np.int8)
    ids, bases = np.empty(window * keys.shape[1] + 1, np.int32), np.empty(window * keys.shape[1], np.float32)
    its, found = np.empty(len(column) + 1, np.int32), np.empty(len(column) + 1, np.float32)
    for reader in range(batch):
        n = _add_up(past[reader], heads[reader], keys, weights, sums, ids)
        scale = np.float32(0)
        for at in range(n):
            bases[at] = sums[ids[at]] * column[ids[at]]
            scale = max(scale, bases[at])
        if scale <= 0:
            scale = np.float32(1)
        if scaled:
            weight[reader] *= scale
        own_taste, popular = wanted[reader], weight[reader]
        own_taste *= scale
        mine = own[begins[reader] : begins[reader + 1]]
        for item in mine:
            sums[item] = -1
        for at in range(n):
            bases[at] += popular * popularity[ids[at]]
            if barred[ids[at]] or sums[ids[at]] < 0:
                bases[at] = -np.inf
        taste = _taste(own_taste, sketches, rough, small)
        m, bar = _choose(bases, ids, n, taste, k, its, found)
        m, bar = _others(sums, popularity, peaks, popular, barred, taste, k, m, bar, its, found)
        _finish(its, found, m, bar, items[reader], scores[reader])
        for at in range(n):
            sums[ids[at]] = 0
        for item in mine:
            sums[item] = 0


@part
def _add_up(past: I32, heads: F32, keys: I32, weights: F32, sums: F32, ids: I32) -> int:
    """Add what follows to `sums`; how many items there are, in `ids`, each once."""
    n = 0
    for place in range(len(past)):
        head, had = heads[place], past[place]
        if head == 0:
            continue
        line, counts = keys[had], weights[had]
        for slot in range(len(line)):
            key = line[slot]
            if key >= 0:
                before = sums[key]
                added = counts[slot] * head
                ids[n] = key
                n += (before == 0) & (added > 0)
                sums[key] = before + added
    return n


@part
def _others(
    sums: F32, popularity: F32, peaks: F32, popular: np.float32, barred: Bools, taste: Taste, k: int,
    m: int, bar: np.float32, its: I32, found: F32,
) -> tuple[int, np.float32]:  # fmt: skip
    """The same for items without counts: by taste and popularity alone."""
    wanted, sketches, bound, small, rough, unit, near = taste
    due = 2 * m + BLOCK
    least, tight = _floor(bar, bound), _floor(bar, near)
    for block in range(len(peaks)):
        if popular * peaks[block] < least:
            continue
        for item in range(block * BLOCK, min((block + 1) * BLOCK, len(popularity))):
            base = popular * popularity[item]
            if base >= least and sums[item] == 0 and not barred[item]:
                if base + unit * _rough_product(small, rough[item]) < tight:
                    continue
                its[m], found[m] = item, base + _product(wanted, sketches[item])
                m += found[m] >= bar
        if m >= due:
            due, bar = 2 * m, max(bar, _about_best(found, m, k))
            least, tight = _floor(bar, bound), _floor(bar, near)
    return m, bar


@part
def _by_reader(pairs: I64, batch: int, size: int) -> tuple[I64, I64]:
    """The items of pairs (P, 2) that are below `size`, reader by reader, and where each reader's begin (B + 1,)."""
    begins = np.zeros(batch + 2, np.int64)
    for at in range(len(pairs)):
        if 0 <= pairs[at, 1] < size:
            begins[pairs[at, 0] + 2] += 1
    for reader in range(batch):
        begins[reader + 2] += begins[reader + 1]
    own = np.empty(begins[batch + 1], np.int64)
    for at in range(len(pairs)):
        if 0 <= pairs[at, 1] < size:
            own[begins[pairs[at, 0] + 1]] = pairs[at, 1]
            begins[pairs[at, 0] + 1] += 1
    return own, begins[: batch + 1]
