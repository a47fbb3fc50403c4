"""The rank of the item that came, among all items that the protocol lets stand. NumPy alone.

In a row of scores NaN marks an item that the protocol has taken out: it is nobody's competitor. `-inf` marks one that
the layer cannot list: it stands behind all others, and two of them tie.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

Ties = Literal["against", "half"]


def ranks(scores: F32, targets: I64, ties: Ties = "against") -> F64:
    """Ranks (N,) from 1 of each row's target, given scores (N, I) and targets (N,).

    Ties `against` us: 1 + the number of other items with a score at least as high; a constant scorer comes out last.
    `half`: 1 + those strictly higher + half of those equal; a constant scorer comes out at chance. Raises ValueError
    where a target itself is taken out.
    """
    own = scores[np.arange(len(scores)), targets][:, None]
    if np.isnan(own).any():
        raise ValueError("a target is among the items taken out")
    at_least: F64 = np.count_nonzero(scores >= own, axis=1).astype(np.float64)  # the target is one of them
    if ties == "against":
        return at_least
    higher = np.count_nonzero(scores > own, axis=1)
    found: F64 = 1 + higher + (at_least - higher - 1) / 2
    return found


def usable(scores: F32) -> F32:
    """A layer's scores with NaN, which says nothing, as `-inf`; changed in place and returned."""
    scores[np.isnan(scores)] = -np.inf
    return scores
