"""Which of several encoded rows of one owner stands: the one with the highest fence. NumPy alone.

A row is a function of its owner's own events up to its fence, so whoever wrote it, and in whatever order rows landed,
the one with the highest fence holds all that the others hold. A late row by a worker that has lost the partition is a
correct, older state.
"""

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]


def standing(owners: I64, fences: I64, held: I64) -> tuple[I64, I64]:
    """Of R rows in the order of the log, with their owners (R,), fences (R,) and the owners' fences in memory
    `held` (R,), -1 for none:

    chosen (C,): places of the rows to take, one an owner at most, none that is behind what is in memory;
    overtaken (V,): owners whose last row in the log is not the one that stands, so that a compaction of the log would
    lose the better one.
    """
    if not len(owners):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    order = np.lexsort((np.arange(len(owners)), fences, owners))
    ends = np.append(np.flatnonzero(np.diff(owners[order])), len(owners) - 1)
    best = order[ends]  # the highest fence of each owner, the later of equals
    last = np.full(len(best), -1, np.int64)
    np.maximum.at(last, np.searchsorted(owners[best], owners), np.arange(len(owners)))
    highest = np.maximum(fences[best], held[best])
    return best[fences[best] >= held[best]], owners[best][fences[last] < highest]
