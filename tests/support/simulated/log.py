"""A partition's log as a broker keeps it: offsets with gaps, producers' sequences, open and aborted transactions."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from aiokafka import TopicPartition
from aiokafka.errors import InvalidProducerEpoch, OutOfOrderSequenceNumber

KEPT_BATCHES = 5  # of a producer, to know a repeated one by


@dataclass(slots=True, eq=False)
class Stored:
    """One record. `state` of a transactional one is open until its marker is written."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    producer: int = -1
    state: str = "committed"  # | "open" | "aborted"
    marker: bool = False

    @property
    def visible(self) -> bool:
        """Whether a reader of committed records sees it, once it may read so far."""
        return self.state == "committed" and not self.marker


@dataclass(slots=True)
class _Sequence:
    epoch: int
    next: int
    last: deque[tuple[int, int, int]] = field(default_factory=lambda: deque(maxlen=KEPT_BATCHES))


class Log:
    """One partition. `appended` is called with what was added, after every append and marker."""

    def __init__(self, tp: TopicPartition, appended: Callable[["Log", list[Stored]], None]) -> None:
        self.tp = tp
        self.records: list[Stored] = []
        self.end = 0
        self._appended = appended
        self._sequences: dict[int, _Sequence] = {}
        self._open: dict[int, int] = {}  # producer -> first offset of its open transaction

    def append(self, records: list[Stored], gap: int = 0) -> int:
        """The offset of the first."""
        base = self.end + gap
        for place, record in enumerate(records):
            record.offset = base + place
        self.records += records
        self.end = base + len(records)
        self._appended(self, records)
        return base

    def produce(
        self, records: list[Stored], producer: int, epoch: int, sequence: int, transactional: bool
    ) -> int:
        """Append a batch of a producer that has an id, once. Raises InvalidProducerEpoch or
        OutOfOrderSequenceNumber, as brokers do."""
        known = self._sequences.get(producer)
        if known is None:
            known = self._sequences[producer] = _Sequence(epoch, sequence)  # brokers take any first one
        if epoch < known.epoch:
            raise InvalidProducerEpoch
        if epoch > known.epoch:
            known = self._sequences[producer] = _Sequence(epoch, 0)
        for first, count, base in known.last:
            if first == sequence and count == len(records):
                return base
        if sequence != known.next:
            raise OutOfOrderSequenceNumber
        if transactional:
            self._open.setdefault(producer, self.end)
            for record in records:
                record.producer, record.state = producer, "open"
        base = self.append(records)
        known.next = sequence + len(records)
        known.last.append((sequence, len(records), base))
        return base

    def mark(self, producer: int, epoch: int, commit: bool) -> None:
        """The end of a producer's transaction here."""
        known = self._sequences.get(producer)
        if known is not None and epoch > known.epoch:
            self._sequences[producer] = _Sequence(epoch, 0)
        self._open.pop(producer, None)
        for record in self.records:
            if record.producer == producer and record.state == "open":
                record.state = "committed" if commit else "aborted"
        self.append([Stored(0, 0, None, None, (), marker=True)])

    @property
    def stable(self) -> int:
        """Readers of committed records get no further."""
        return min(self._open.values(), default=self.end)

    def read(self, start: int, most: int) -> tuple[list[Stored], int]:
        """Up to `most` committed records from an offset on, and where to go on."""
        found: list[Stored] = []
        stable = self.stable
        for record in self.records[self._place(start) :]:
            if record.offset >= stable:
                return found, max(start, record.offset)
            if record.visible:
                if len(found) == most:
                    return found, record.offset
                found.append(record)
        return found, max(start, self.end)

    def _place(self, offset: int) -> int:
        low, high = 0, len(self.records)
        while low < high:
            middle = (low + high) // 2
            if self.records[middle].offset < offset:
                low = middle + 1
            else:
                high = middle
        return low
