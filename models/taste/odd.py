"""Clicks that are strange and count all the same, each by its rule. What they are is counted, so that somebody may look
at the producer. NumPy alone.

late       behind the reader's newest event: added at its own time, exactly
too_late   so far behind that its weight is nothing at every half-life: it moves no sum, and stands in the ring
dwell      a time below 0 counts as 0, one above a day as what any long time counts
"""

import numpy as np
from numpy.typing import NDArray

from models.taste import actions, decay

I64 = NDArray[np.int64]

LONGEST_DWELL_S = 86_400.0


def strange(
    kinds: NDArray[np.int8],
    dwell_s: NDArray[np.float64],
    at_ms: I64,
    newest_at_ms: I64,
    half_lives_ms: tuple[int, ...],
) -> dict[str, NDArray[np.bool_]]:
    """Which of n clicks are what. `newest_at_ms` (n,): of their readers before them, 0 for none; half-lives: 0 is
    infinite. What no click is may be left out."""
    found = {}
    outside = (dwell_s < 0) | (dwell_s > LONGEST_DWELL_S)
    if np.count_nonzero(outside):
        found["dwell"] = (kinds == actions.DWELL) & outside
    behind_ms = newest_at_ms - at_ms
    late = behind_ms > 0
    if not np.count_nonzero(late):
        return found
    if all(half_lives_ms):
        found["too_late"] = behind_ms >= (decay.REACH + 1) * max(half_lives_ms)
        late &= ~found["too_late"]
    return found | {"late": late}
