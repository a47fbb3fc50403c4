"""The rows of what a worker serves, for many readers at once: the parts of the score, their sum, own items first, and
the last item alone. One function for recorded events and for the live stream, so that both measure the same. NumPy
alone.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.taste.items.table import ItemTable
from models.taste.lists.rank import RankSettings
from models.taste.lists.scores import layer_scores
from models.taste.lists.sources import Weighted
from models.taste.readers.users import UserRows

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

ROWS = ("counts", "taste", "trending", "blend", "own-first", "last")
"""`trending` is popularity with the half-life of the item table, `last` the counts of the reader's last item alone."""


def row_scores(
    table: ItemTable,
    users: UserRows,
    rows: I32,
    now_ms: int,
    settings: RankSettings,
    histories: Sequence[I32],
    further: Sequence[Weighted] = (),
) -> F32:
    """Scores (6, B, I) in the order of ROWS, by item index; column 0, the unknown item, is `-inf` like every item that
    has no row in the table. `histories` are the readers' own items, oldest first, for `own-first`. `further` sources
    are in the sum and have no row.
    """
    parts, listable = layer_scores(table, users, rows, now_ms, settings, further)
    alone = replace(settings, window=1, taste=0.0, popularity=0.0, walk=0.0)
    last, _ = layer_scores(table, users, rows, now_ms, alone)
    found = np.empty((len(ROWS), *parts.shape[1:]), np.float32)
    found[:3] = parts[:3]
    np.sum(parts, axis=0, out=found[3])
    found[5] = last[0]
    for place in (0, 2, 5):  # counted nothing: says nothing
        found[place][found[place] <= 0] = -np.inf
    found[:, :, ~listable] = -np.inf
    found[4] = found[3]
    for reader, history in enumerate(histories):
        top = float(found[3, reader].max(initial=-np.inf))
        base = top if np.isfinite(top) else 0.0
        found[4, reader, history] = base + (1 + abs(base)) * np.arange(1, len(history) + 1, dtype=np.float32)
    return found
