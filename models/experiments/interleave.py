"""Two lists shown as one, so that the same reader judges both: team draft. NumPy alone.

As two captains choose teams: in every round a coin says who chooses first, each takes the best item of its list that is
not taken yet, and a click on an item is a point for its captain's list. Radlinski, Kurup, Joachims, "How does
clickthrough data reflect retrieval quality?", CIKM 2008.

When one list has nothing left, the other one's items fill the places without a team: they would be points that only
one side can win.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Bools = NDArray[np.bool_]

NO_TEAM = -1


@dataclass(frozen=True, slots=True)
class Drafted:
    """B lists of up to k items, -1 padded."""

    items: I32  # (B, k)
    teams: I8  # (B, k) 0 and 1 for the first and second list, NO_TEAM for filled and empty places
    origins: I8  # (B, k) the list it was taken from, -1 for empty places
    places: I64  # (B, k) where it stood in that list


def team_draft(first: I32, second: I32, numbers: F64, k: int) -> Drafted:
    """Interleave lists (B, K) and (B, K'), -1 padded at the end, without repeats in one. `numbers` (B,) in [0, 1) are
    all the chance there is: the same ones give the same lists.
    """
    batch = len(first)
    items = np.full((batch, k), -1, np.int32)
    teams, origins = np.full((batch, k), NO_TEAM, np.int8), np.full((batch, k), -1, np.int8)
    places = np.zeros((batch, k), np.int64)
    rows = np.arange(batch)
    sources = (first, second)
    for nth in range(k):
        if nth % 2 == 0:
            leader = _coins(numbers, nth // 2)
        captain = leader if nth % 2 == 0 else 1 - leader
        best = [
            _best(source, items) for source in sources
        ]  # (B,) place of each list's best free item, -1 none
        both = (best[0] >= 0) & (best[1] >= 0)
        captain = np.where(both, captain, np.where(best[0] >= 0, 0, 1)).astype(np.int8)
        at = np.where(captain == 0, best[0], best[1])
        some = at >= 0
        if not some.any():
            break
        taken = np.where(captain == 0, first[rows, best[0]], second[rows, best[1]])
        items[some, nth], places[some, nth] = taken[some], at[some]
        origins[some, nth] = captain[some]
        teams[some, nth] = np.where(both, captain, NO_TEAM)[some]
    return Drafted(items, teams, origins, places)


def _best(source: I32, taken: I32) -> I64:
    """The first place (B,) of each list (B, K) that holds an item not taken (B, k) yet; -1 where there is none."""
    free = (source >= 0) & ~(source[:, :, None] == taken[:, None, :]).any(axis=2)
    if not source.shape[1]:
        return np.full(len(source), -1)
    return np.where(free.any(axis=1), free.argmax(axis=1), -1)


def _coins(numbers: F64, toss: int) -> I8:
    """0 or 1 (B,), one for every toss of each number (splitmix64)."""
    z = (numbers * 2.0**53).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z += np.uint64((toss + 1) * 0xD1342543DE82EF95 & (2**64 - 1))
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    found: I8 = ((z ^ (z >> np.uint64(31))) >> np.uint64(63)).astype(np.int8)
    return found
