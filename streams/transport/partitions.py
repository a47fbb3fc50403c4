"""The partitions that one reader owns: their ledgers, which are open, which are paused, and what is in flight.

Acts on the consumer by pause, resume and seek alone. A partition is *closed* from assignment until its state is back,
and again from a failure until it has been rewound; a closed partition stays paused.
"""

import asyncio
import logging
from collections.abc import Iterable

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError

from streams.transport.ledger import Entry, Ledger

log = logging.getLogger(__name__)


class Partitions:
    """`limit` batches in flight pause a partition; `limit_bytes` over all pause every one."""

    def __init__(self, limit: int, limit_bytes: int) -> None:
        self.consumer: AIOKafkaConsumer | None = None  # None before the start and after the end
        self.ledgers: dict[TopicPartition, Ledger] = {}
        self.open: set[TopicPartition] = set()
        self.held: set[TopicPartition] = set()  # paused by flow control
        self.resume_at: dict[TopicPartition, int] = {}  # where to start over when records were not handed on
        self.in_flight_bytes = 0
        self.changed = asyncio.Event()  # a batch is done, or was given up
        self._limit = limit
        self._limit_bytes = limit_bytes

    # -- come and go

    def take(self, tps: Iterable[TopicPartition]) -> None:
        """Own partitions, closed."""
        tps = list(tps)
        for tp in tps:
            if tp not in self.ledgers:
                self.ledgers[tp] = Ledger()
        self.pause(tps)

    def forget(self, tp: TopicPartition) -> list[Entry]:
        """The partition has left; its batches in flight."""
        ledger = self.ledgers.pop(tp)
        self.in_flight_bytes -= ledger.in_flight_bytes
        for store in (self.open, self.held):
            store.discard(tp)
        self.resume_at.pop(tp, None)
        return ledger.rewind()

    def close(self, tps: Iterable[TopicPartition]) -> None:
        """Hand nothing more on of them."""
        tps = list(tps)
        self.pause(tps)
        self.open.difference_update(tps)
        self.held.difference_update(tps)

    def rewind(self, tp: TopicPartition, keep_committable: bool) -> None:
        """Forget what is in flight of a partition that is closed."""
        ledger = self.ledgers[tp]
        self.in_flight_bytes -= ledger.in_flight_bytes
        ledger.rewind(keep_committable=keep_committable)
        self.changed.set()

    # -- batches

    def append(self, tp: TopicPartition, first: int, after: int, cost_bytes: int) -> Entry:
        """A batch is in flight."""
        entry = self.ledgers[tp].append(first, after, cost_bytes)
        self.in_flight_bytes += cost_bytes
        return entry

    def finish(self, tp: TopicPartition, entry: Entry) -> bool:
        """A batch is done; False when its partition left or started over meanwhile."""
        ledger = self.ledgers.get(tp)
        if ledger is None or not ledger.finish(entry):
            return False
        self.in_flight_bytes -= entry.cost_bytes
        self.changed.set()
        return True

    @property
    def unfinished(self) -> int:
        """Batches in flight."""
        return sum(ledger.in_flight for ledger in self.ledgers.values())

    # -- flow control

    def hold(self) -> bool:
        """Pause what has too much in flight; whether anything was. Several partitions share the bound on bytes."""
        full = self.in_flight_bytes > self._limit_bytes
        hold = {tp for tp in self.open - self.held if full or self.ledgers[tp].in_flight >= self._limit}
        self.pause(hold)
        self.held |= hold
        return bool(hold)

    def release(self) -> bool:
        """Resume what has little in flight again; whether anything was."""
        if not self.held or self.in_flight_bytes > self._limit_bytes // 2:
            return False
        low = self._limit // 2
        free = {tp for tp in self.held if tp in self.open and self.ledgers[tp].in_flight <= low}
        self.held -= free
        self.resume(free)
        return bool(free)

    def pause(self, tps: Iterable[TopicPartition]) -> None:
        """Fetch no more of them."""
        if self.consumer is None:  # stopped
            return
        for tp in tps:
            try:
                self.consumer.pause(tp)
            except IllegalStateError:
                log.debug("%s left before it could be paused", tp)

    def resume(self, tps: Iterable[TopicPartition]) -> None:
        """Fetch them again."""
        if self.consumer is None:
            return
        for tp in tps:
            try:
                self.consumer.resume(tp)
            except IllegalStateError:
                log.debug("%s left before it could be resumed", tp)
