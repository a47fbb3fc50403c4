"""Transitions on the wire: from the clicks agent to the item agent, one record a positive click, key = the item.

The bytes are `models.taste.readers.transitions`; here each finds the partition of its key.
"""

from typing import cast

import numpy as np
from aiokafka.partitioner import murmur2
from numpy.typing import NDArray

from models.taste.index import ItemIndex
from models.taste.readers.fold import Folded
from models.taste.readers.transitions import encode, named, transitions
from streams.effects import Emit
from streams.topology.topics import TRANSITIONS

WINDOW = 10  # previous items of a click; W of the counts


class TransitionWriter:
    """Makes the records; remembers each item's partition, since hashing a key in Python costs about 5 µs."""

    def __init__(self, items: ItemIndex, partitions: int) -> None:
        self._items = items
        self._partitions = partitions
        self.unnamed = 0  # pairs of undone events that stay, since the item they lead to has no name yet
        self._partition_of: NDArray[np.int32] = np.zeros(0, np.int32)

    def emits(
        self,
        folded: Folded,
        items: NDArray[np.int32],
        kinds: NDArray[np.int8],
        weights: NDArray[np.float32],
        at_ms: NDArray[np.int64],
        offsets: NDArray[np.int64],
        sources: NDArray[np.int32],
    ) -> list[Emit]:
        """The transitions of a fold (columns as folded, `sources` their partitions), one effect a target
        partition, those of one source in offset order."""
        told = transitions(folded, items, kinds, weights, at_ms, offsets, sources)
        found = named(told, self._items)
        self.unnamed += len(told.items) - len(found.items)
        if not len(found.items):
            return []
        self._place(found.items)
        values = encode(found, self._items)
        names = self._names()
        emits: dict[int, tuple[list[bytes], list[bytes]]] = {}  # by target partition: keys and values
        targets = self._partition_of[found.items].tolist()
        for item, value, target in zip(found.items.tolist(), values, targets, strict=True):
            keys_of, values_of = emits.setdefault(target, ([], []))
            keys_of.append(names[item].encode())
            values_of.append(value)
        return [Emit(TRANSITIONS, target, *emits[target]) for target in sorted(emits)]

    def _names(self) -> list[str]:
        return cast(list[str], self._items.names)  # of what is written here each has one

    def _place(self, items: NDArray[np.int32]) -> None:
        """Find the partition of items that were not yet written. Those written have names: they came by name."""
        names = self._names()
        missing = len(names) - len(self._partition_of)
        if missing > 0:
            room = np.full(max(missing, len(names) // 2), -1, np.int32)
            self._partition_of = np.concatenate([self._partition_of, room])
        new = self._partition_of[items] < 0
        for item in set(items[new].tolist()) if np.count_nonzero(new) else ():
            self._partition_of[item] = partition_of(names[item], self._partitions)


def partition_of(key: str, partitions: int) -> int:
    """Where Kafka's default partitioner puts a key."""
    return int((murmur2(key.encode()) & 0x7FFFFFFF) % partitions)
