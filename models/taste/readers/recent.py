"""The last events' ids of a reader: a producer that sends an event twice, at another offset, must not count twice.

A set of the last `KEPT` accepted ids, as 64-bit hashes, in the order of acceptance. Whether an event is a duplicate
depends on the reader's own accepted events alone, so it does not matter where batches were cut. NumPy where no id of
a batch is known or repeats, which is nearly always; event by event for the readers with one that is.
"""

from collections import deque

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Bools = NDArray[np.bool_]

KEPT = 16
NONE = 0  # the hash of an event without an id: never a duplicate


def new(ids: U64, row_of: I64, recent: U64) -> bool:
    """Whether none of n events can be a duplicate, at a glance: ids that no reader's last ones have, each once."""
    if np.count_nonzero(recent.take(row_of, 0) == ids[:, None]):
        return not np.count_nonzero(ids)
    ordered = np.sort(ids)
    return not np.count_nonzero(ordered[1:] == ordered[:-1]) or not ordered[-1:].any()


def duplicates(ids: U64, row_of: I64, recent: U64, accepted: I64) -> Bools:
    """Which of n events, each reader's in order, are duplicates: ids (n,), row_of (n,); `recent` (U, KEPT) by row,
    slot = number accepted mod KEPT; `accepted` (U,).
    """
    found = np.zeros(len(ids), np.bool_)
    suspects = _repeats(ids) | (recent[row_of] == ids[:, None]).any(axis=1)
    suspects &= ids != NONE
    if not suspects.any():
        return found
    rows = np.unique(row_of[suspects])
    for row in rows.tolist():
        own = np.flatnonzero(row_of == row)
        count = int(accepted[row])
        kept = deque(recent[row, np.arange(max(0, count - KEPT), count) % KEPT].tolist(), KEPT)
        for place, one in zip(own.tolist(), ids[own].tolist(), strict=True):
            if one != NONE and one in kept:
                found[place] = True
            else:
                kept.append(one)
    return found


def _repeats(ids: U64) -> Bools:
    """Events whose id occurs more than once in the batch, of whatever reader."""
    order = np.argsort(ids)
    same = ids[order][1:] == ids[order][:-1]
    found = np.zeros(len(ids), np.bool_)
    if same.any():
        found[order[1:][same]] = found[order[:-1][same]] = True
    return found
