"""What readers do with items: kinds, their codes on the wire of the state, and how much each says about
taste.

The default weights are a starting point, not tuned on data. `undo` has none: it takes an event back, with that event's
own weight (`models.taste.readers.undo`).
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

KINDS = (
    "impression",
    "skip",
    "click",
    "dwell",
    "complete",
    "like",
    "save",
    "share",
    "follow",
    "hide",
    "report",
    "undo",
)
CODES: dict[str, int] = {
    kind: code for code, kind in enumerate(KINDS)
}  # stored in rings: append, never reorder

IMPRESSION = CODES["impression"]
DWELL = CODES["dwell"]
UNDO = CODES["undo"]

LIMIT = 255.0  # of a weight's size: what decayed sums take (`models.taste.decay.snap`)
LONGEST_DWELL = 2.0  # most that a dwell weighs
WEIGHTS: F32 = np.array([-0.05, -0.2, 1, LONGEST_DWELL, 2, 2, 3, 4, 4, -4, -10, 0], np.float32)
_POSITIVE = np.array([k in ("click", "dwell", "complete", "like", "save", "share", "follow") for k in KINDS])
STEPS = 256.0
_SIGNS = np.where(_POSITIVE, np.float32(1 / STEPS), np.float32(-1 / STEPS))
_HIDING = np.array([k in ("hide", "report") for k in KINDS])
_CHANGES_HIDDEN = np.array([k in ("hide", "report", "undo") for k in KINDS])


def weight_table(by_kind: Mapping[str, float]) -> F32:
    """(12,) float32 by code, from weights by kind; a kind left out keeps its default.

    Raises ValueError for a kind that there is not, for `undo`, for a weight that is not finite or above LIMIT in size,
    and for one whose sign its kind does not have: what speaks for an item weighs 0 or more, all else 0 or less.
    """
    table = WEIGHTS.copy()
    for kind, weight in by_kind.items():
        if kind not in CODES:
            raise ValueError(f"{kind}: there is no such kind")
        if kind == "undo":
            raise ValueError("undo: it has no weight of its own, it takes an event back")
        if not abs(weight) <= LIMIT:  # NaN too
            raise ValueError(f"{kind}: a weight lies between -{LIMIT:g} and {LIMIT:g}")
        positive = bool(_POSITIVE[CODES[kind]])
        if weight < 0 if positive else weight > 0:
            raise ValueError(f"{kind}: its weight is {'0 or more' if positive else '0 or less'}")
        table[CODES[kind]] = weight
    return table


def codes_of(kinds: Iterable[str]) -> NDArray[np.int8]:
    """Codes (N,) int8 of kinds by name. Raises KeyError for an unknown one."""
    return np.array([CODES[kind] for kind in kinds], np.int8)


def weights_of(
    kinds: NDArray[np.int8], dwell_s: Sequence[float] | NDArray[np.float64], table: F32 = WEIGHTS
) -> F32:
    """Weights (N,) float32 of actions by code; `table` (12,) gives each kind's.

    `dwell_s` (N,) counts for dwell only: min(its weight, ln(1 + s / 10)); missing as 0 or NaN gives 0.
    """
    weights = table[kinds]
    dwelt = kinds == DWELL
    if np.count_nonzero(dwelt):
        seconds = np.fmax(np.asarray(dwell_s, np.float64)[dwelt], 0.0)  # of NaN and 0 it takes 0
        seconds[np.isinf(seconds)] = 1e9
        weights[dwelt] = np.minimum(table[DWELL], np.log1p(seconds / 10.0))
    return weights


def sizes_of(weights: F32) -> NDArray[np.uint16]:
    """Sizes (N,) of weights in steps of 1/256, as rings keep them; the kind tells the sign (`signed`)."""
    sizes: NDArray[np.uint16] = np.rint(np.abs(weights) * np.float32(STEPS)).astype(np.uint16)
    return sizes


def signed(kinds: NDArray[np.int8], sizes: NDArray[np.uint16]) -> F32:
    """Weights (N,) of such sizes."""
    return sizes.astype(np.float32) * _SIGNS[kinds]


def is_positive(kinds: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Whether a kind speaks for the item: it may feed item-to-item counts and be a reason."""
    return _POSITIVE.take(kinds)


def is_hiding(kinds: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Whether a kind bars the item from the reader's lists (hide, report)."""
    return _HIDING.take(kinds)


def changes_hidden(kinds: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Whether a kind may hide something, or show it again."""
    return _CHANGES_HIDDEN.take(kinds)
