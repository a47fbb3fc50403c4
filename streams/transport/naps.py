"""Records that are not due yet: their partition naps, and nothing of it is in flight or in memory meanwhile.

Pure: the time is an argument.
"""

from collections.abc import Callable
from typing import Any

from aiokafka import TopicPartition

SHORTEST_MS = 200  # a nap costs a fetch


class Naps:
    """Which partitions nap until when. `left_ms(record, now_ms)` tells how long a record is not to be handed on."""

    def __init__(self, left_ms: Callable[[Any, int], int] | None) -> None:
        self._left_ms = left_ms
        self._until_ms: dict[TopicPartition, int] = {}

    def due(self, records: list[Any], now_ms: int) -> int:
        """How many of the records in front are due. Order is kept: one that is due waits behind one that is not."""
        if self._left_ms is None:
            return len(records)
        for place, record in enumerate(records):
            if self._left_ms(record, now_ms) > 0:
                return place
        return len(records)

    def begin(self, tp: TopicPartition, first: Any, now_ms: int) -> int:
        """The partition naps until its first record is due; returns until when, in ms."""
        assert self._left_ms is not None
        self._until_ms[tp] = now_ms + max(self._left_ms(first, now_ms), SHORTEST_MS)
        return self._until_ms[tp]

    def naps(self, tp: TopicPartition, until_ms: int) -> bool:
        """Whether that nap is still the one."""
        return self._until_ms.get(tp) == until_ms

    def end(self, tp: TopicPartition) -> None:
        """It woke up, or left."""
        self._until_ms.pop(tp, None)

    def __len__(self) -> int:
        return len(self._until_ms)
