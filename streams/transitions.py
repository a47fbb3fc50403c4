"""Transitions on the wire: from the clicks agent to the item agent, one record a positive click, key = the item.

The bytes are `models.taste.transitions`; here each finds the partition of its key.
"""

import numpy as np
from aiokafka.partitioner import murmur2
from numpy.typing import NDArray

from models.taste.items import ItemIndex
from models.taste.transitions import encode, transitions
from models.taste.users import Folded
from streams.codecs import ClickColumns
from streams.effects import Emit
from streams.topics import TRANSITIONS

WINDOW = 10  # previous items of a click; W of the counts


class TransitionWriter:
    """Makes the records; remembers each item's partition, since hashing a key in Python costs about 5 µs."""

    def __init__(self, items: ItemIndex, partitions: int) -> None:
        self._items = items
        self._partitions = partitions
        self._partition_of: NDArray[np.int32] = np.zeros(0, np.int32)

    def emits(
        self, columns: ClickColumns, items: NDArray[np.int32], weights: NDArray[np.float32], folded: Folded
    ) -> list[Emit]:
        """The transitions of one partition's fold, one effect a target partition, in offset order."""
        found = transitions(
            folded, items, columns.kinds, weights, columns.at_ms, columns.offsets, columns.partition
        )
        if not len(found.items):
            return []
        self._cover()
        values = encode(found, self._items)
        names = self._items.names
        keys = [(names[i] or "").encode() for i in found.items.tolist()]
        target = self._partition_of[found.items]
        emits = []
        for partition in np.unique(target).tolist():
            chosen = np.flatnonzero(target == partition).tolist()
            emits.append(Emit(TRANSITIONS, partition, [keys[i] for i in chosen], [values[i] for i in chosen]))
        return emits

    def _cover(self) -> None:
        known, names = len(self._partition_of), self._items.names
        if known < len(names):
            new = [_partition(name or "", self._partitions) for name in names[known:]]
            self._partition_of = np.concatenate([self._partition_of, np.array(new, np.int32)])


def _partition(key: str, partitions: int) -> int:
    """Where Kafka's default partitioner puts a key."""
    return int((murmur2(key.encode()) & 0x7FFFFFFF) % partitions)
