"""What is handed on of a poll: batches of partitions that are open, of records that are due."""

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError

from streams.clock import Clock
from streams.heartbeat import BEATING, taken_out
from streams.transport.batch import PartitionBatch, size_bytes
from streams.transport.naps import Naps
from streams.transport.partitions import Partitions


class IntakeObserver(Protocol):
    """What the metrics want to know of what is read."""

    def batch_read(self, partition: int, records: int, size_bytes: int) -> None: ...
    def napping(self, partitions: int) -> None: ...


class Intake:
    """One reader's. `stay_closed`: whether a closed partition opens by itself at what was committed; `spawn` runs work
    beside the caller, `sleep` ends early when the reader stops."""

    def __init__(
        self,
        topic: str,
        owned: Partitions,
        naps: Naps,
        clock: Clock,
        observer: IntakeObserver,
        *,
        stay_closed: Callable[[], bool],
        stopping: Callable[[], bool],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        sleep: Callable[[float], Coroutine[Any, Any, None]],
    ) -> None:
        self._topic = topic
        self._owned = owned
        self._naps = naps
        self._clock = clock
        self._observer = observer
        self._stay_closed = stay_closed
        self._stopping = stopping
        self._spawn = spawn
        self._sleep = sleep

    def batch(self, tp: TopicPartition, records: list[Any]) -> PartitionBatch | None:
        """What is to be handed on of a partition's records, noted as in flight; None where that is nothing."""
        if tp not in self._owned.ledgers:
            return None  # it left: its next owner starts at the committed offset
        if tp not in self._owned.open:
            if not self._stay_closed():
                first = records[0].offset
                self._owned.resume_at[tp] = min(self._owned.resume_at.get(tp, first), first)
            return None
        due = self._naps.due(records, self._clock.wall_ms())
        if due < len(records):
            self._begin_nap(tp, records[due])
            records = records[:due]
        if not records:
            return None
        cost = size_bytes(records)
        entry = self._owned.append(tp, records[0].offset, records[-1].offset + 1, cost)
        rest, beats = taken_out(records) if self._topic in BEATING else (records, ())
        if rest:
            self._observer.batch_read(tp.partition, len(rest), cost)
        return PartitionBatch(self._topic, tp.partition, rest, entry, self._clock.monotonic_s(), beats)

    def left(self, tp: TopicPartition) -> None:
        """The partition is another's now: it naps no more."""
        if self._naps:
            self._end_nap(tp)

    # -- records that are not due

    def _begin_nap(self, tp: TopicPartition, first: Any) -> None:
        """Let go of what was fetched of a partition from a record that is not due, and pause until it is."""
        if self._owned.consumer is None:  # stopped
            return
        self._owned.pause([tp])
        try:
            self._owned.consumer.seek(tp, first.offset)
        except IllegalStateError:
            return  # it left
        until_ms = self._naps.begin(tp, first, self._clock.wall_ms())
        self._observer.napping(len(self._naps))
        self._spawn(self._nap(tp, until_ms))

    async def _nap(self, tp: TopicPartition, until_ms: int) -> None:
        while self._naps.naps(tp, until_ms) and not self._stopping():
            left_s = (until_ms - self._clock.wall_ms()) / 1000
            if left_s <= 0:
                self._end_nap(tp)
                if tp in self._owned.open - self._owned.held:
                    self._owned.resume([tp])
                return
            await self._sleep(left_s)

    def _end_nap(self, tp: TopicPartition) -> None:
        self._naps.end(tp)
        self._observer.napping(len(self._naps))
