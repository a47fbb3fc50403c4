"""The counts layer of a batch of readers: what follows their last items, added up. Compiled.

L0(i) = column(i) * sum over the last W positive items j_k of lambda**(k-1) / (1 + row(j_k))**b * C[j_k, i]
"""

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled
from models.taste.items.table import ItemTable, Prepared
from models.taste.lists.rank import Readers

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]


def counts_of(table: ItemTable, prepared: Prepared, readers: Readers) -> tuple[F32, F32]:
    """L0 of all items (B, I), and (B,) the largest, 1 if that is 0: what other layers are multiplied with."""
    counts = np.empty((len(readers.past), len(prepared.column)), np.float32)
    scale = np.empty(len(counts), np.float32)
    lists = table.followers
    _add_up(readers.past, readers.heads, lists.keys, lists.weights, prepared.column, counts, scale)
    return counts, scale


@compiled(
    "void(int32[:, ::1], float32[:, ::1], int32[:, ::1], float32[:, ::1], float32[::1], float32[:, ::1], float32[::1])"
)
def _add_up(past: I32, heads: F32, keys: I32, weights: F32, column: F32, counts: F32, scale: F32) -> None:
    for reader in range(len(past)):
        own = counts[reader]
        own[:] = 0
        for place in range(past.shape[1]):
            head, had = heads[reader, place], past[reader, place]
            if head == 0:
                continue
            for slot in range(keys.shape[1]):
                key = keys[had, slot]
                if key >= 0:
                    own[key] += weights[had, slot] * head
        own *= column
        largest = np.float32(0)
        for item in range(len(own)):
            largest = max(largest, own[item])
        scale[reader] = largest if largest > 0 else np.float32(1)
