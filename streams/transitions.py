"""Transitions on the wire: which items came before a click, from the clicks agent to the item agent.

MessagePack arrays on an internal topic, one record a positive click, key = the clicked item. `source` says which click
it was, so that the item side can tell a repeated one.
"""

from collections import defaultdict
from collections.abc import Sequence

import msgspec
import numpy as np
from aiokafka.partitioner import murmur2

from models.taste.items import ItemIndex
from models.taste.transitions import DEFAULT_WINDOW, transition_weights
from models.taste.users import Folded
from streams.codecs import ClickColumns
from streams.effects import Emit
from streams.topics import TRANSITIONS


class Transition(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """`item` was chosen after `previous` (most recent first)."""

    item: str
    at_ms: int
    weight: float
    previous: list[str]
    source_partition: int
    source_offset: int


class TransitionWriter:
    """Makes the records; remembers each item's partition, since hashing a key in Python costs about 5 µs."""

    def __init__(self, items: ItemIndex, partitions: int, window: int = DEFAULT_WINDOW) -> None:
        self.window = window
        self._items = items
        self._partitions = partitions
        self._partition_of: dict[int, int] = {}

    def emits(self, columns: ClickColumns, folded: Folded) -> list[Emit]:
        """The transitions of the applied, positive clicks of one partition, grouped by target partition."""
        chosen = transition_weights(folded, columns.kinds)
        names = self._items.names
        keys: defaultdict[int, list[bytes]] = defaultdict(list)
        values: defaultdict[int, list[bytes]] = defaultdict(list)
        for event in np.flatnonzero(chosen > 0).tolist():
            index = int(folded.item_of[event])
            item = names[index]
            previous = [names[j] for j in folded.previous[event].tolist() if j >= 0 and names[j] is not None]
            record = Transition(
                item,
                int(columns.at_ms[event]),
                float(chosen[event]),
                previous,
                columns.partition,
                int(columns.offsets[event]),
            )
            partition = self._partition(index, item)
            keys[partition].append(item.encode())
            values[partition].append(_encode(record))
        return [Emit(TRANSITIONS, p, keys=keys[p], values=values[p]) for p in keys]

    def _partition(self, index: int, item: str) -> int:
        partition = self._partition_of.get(index)
        if partition is None:
            partition = (murmur2(item.encode()) & 0x7FFFFFFF) % self._partitions
            self._partition_of[index] = partition
        return partition


def decode_transitions(values: Sequence[bytes | None]) -> list[Transition]:
    """Raises msgspec.DecodeError: only workers write this topic, so a bad record is a version mismatch."""
    return [_decode(value) for value in values if value is not None]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Transition).decode
