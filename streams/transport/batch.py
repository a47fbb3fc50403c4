"""One Faust event = the partition batches of one poll.

A batch is raw: values are decoded by the agent, off the reader's path. It is done only when its agent's effects
are durable and the commit group says so; what Faust believes about acknowledgement is never asked.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from faust.types.tuples import ConsumerMessage

from streams.transport.ledger import Entry


class Record(Protocol):
    """What a consumed record offers (aiokafka's ConsumerRecord, or a test's)."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class PartitionBatch:
    """Records of one partition, in offset order, and their entry in the ledger. `beats`: when heartbeats were sent
    that lay among them; a batch of heartbeats alone has no record."""

    __slots__ = ("beats", "entry", "partition", "read_s", "records", "topic")

    def __init__(
        self,
        topic: str,
        partition: int,
        records: Sequence[Record],
        entry: Entry,
        read_s: float,
        beats: Sequence[int] = (),
    ) -> None:
        self.topic = topic  # without the cluster's prefix
        self.partition = partition
        self.records = records
        self.entry = entry
        self.read_s = read_s  # monotonic
        self.beats = beats

    @property
    def lost(self) -> bool:
        """Whether the partition was taken away: effects of this batch must not be sent."""
        return self.entry.lost


Poll = Sequence[PartitionBatch]
"""What one fetch brought, a batch a partition; at least one."""


def size_bytes(records: Sequence[Record]) -> int:
    """What the records hold, estimated from the first 16: an exact sum would cost a visit to each."""
    sample = records[:16]
    seen = sum(len(r.value or b"") + len(r.key or b"") + 64 for r in sample)
    largest = max(len(r.value or b"") for r in sample)
    if largest > 16_384:  # media: sizes differ too much to estimate
        return sum(len(r.value or b"") + 64 for r in records)
    return seen * len(records) // len(sample)


class PollMessage(ConsumerMessage):
    """The Faust message that carries the batches of a poll through a channel; `generation` must be the app's own."""

    def __init__(self, poll: Poll, generation: int) -> None:
        batch = poll[-1]
        super().__init__(
            topic=batch.topic,
            partition=batch.partition,
            offset=batch.entry.next - 1,
            timestamp=0.0,
            timestamp_type=0,
            headers={},
            key=None,
            value=None,
            checksum=None,
            generation_id=generation,
        )


def event_of(app: Any, poll: Poll) -> Any:
    """The Faust event for the batches of a poll, at least one. Streams drop events of another generation, so the
    app's is stamped."""
    message = PollMessage(poll, app.consumer_generation_id)
    return app.create_event(None, poll, None, message)
