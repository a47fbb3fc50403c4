"""Own items first: what a reader had, the latest first, as a source of lists. NumPy alone.

For a shop or a playlist, where one comes back to what one had a moment ago: 36 % of scored clicks of yoochoose do. It
needs lists in which an item may come again (`RankSettings.repeat`); what was hidden or reported stays out as ever.
"""

import numpy as np
from numpy.typing import NDArray

from models.taste import actions
from models.taste.lists.sources import Weighted
from models.taste.readers.users import UserRows

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

_WEIGHT = 100.0  # far over what all other parts of a score can add up to


class OwnItems:
    """1 for the latest positive item of a reader's ring, falling to 1/2 for the oldest; 0 for all others."""

    name = "own"

    def scores(self, users: UserRows, rows: I32, now_ms: int) -> F32:
        """(B, I) by item index."""
        items, kinds, _ = users.recent(rows, users.ring)
        found = np.zeros((len(rows), len(users.items)), np.float32)
        reader, nth = np.nonzero(actions.is_positive(kinds) & (items > 0))
        value = (1 - 0.5 * nth / users.ring).astype(np.float32)
        np.maximum.at(found, (reader, items[reader, nth]), value)
        return found


OWN_FIRST = Weighted(OwnItems(), _WEIGHT)
