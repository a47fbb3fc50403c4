"""What makes an agent's effects durable, as its reader and its agent see it; how is in `commit` and `transactions`."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from streams.effects import Emit
from streams.traces import sampled_trace
from streams.transport.batch import PartitionBatch

W = TypeVar("W")


@dataclass(slots=True)
class Submission(Generic[W]):
    """A batch and what its agent made of it (decoded columns, labels, ...)."""

    batch: PartitionBatch
    work: W


class CommitObserver(Protocol):
    """What the metrics want to know of group commits."""

    def group_decided(self, batches: int, records: int, decide_s: float) -> None: ...
    def group_done(
        self, records: int, commit_s: float, oldest_read_s: float, trace: str | None = None
    ) -> None: ...
    def group_failed(self, batches: int) -> None: ...
    def foreign_rows(self, records: int) -> None: ...


class Commit(ABC, Generic[W]):
    """How one agent's effects become durable: `streams.transport.commit.GroupCommit` (at least once) or
    `streams.transport.transactions.TransactionalCommit` (exactly once)."""

    commits_offsets = False
    """Whether offsets travel with the effects, so that the reader must not commit them."""

    @abstractmethod
    def submit(self, batch: PartitionBatch, work: W) -> None:
        """Hand over a batch. Never waits: the reader's flow control bounds what can be waiting."""

    @abstractmethod
    def fail(self, error: BaseException | None) -> None:
        """An agent cannot go on with a batch it took; the owner decides what that means."""

    @abstractmethod
    async def run(self) -> None:
        """Form groups until cancelled or settled. An exception of `decide` ends it: the worker must stop."""

    async def open(self, partition: int) -> None:
        """Before the state of a partition is read: whoever had it before can write no more, where the broker can
        see to that. Raises Retry, KafkaError or OSError."""

    @abstractmethod
    async def heal(self, rows: Emit) -> None:
        """Write rows of a changelog again, before its partition is worked on. Raises Retry, KafkaError."""

    async def close(self, partition: int) -> None:
        """The partition left."""

    @abstractmethod
    async def reset(self, partitions: Sequence[int]) -> None:
        """Give up all that waits or is on its way for these partitions (`GroupCommit`: for all), and return when
        nothing more can leave."""

    def draining(self, on: bool) -> None:
        """Partitions are about to leave: while it is on, no batch leaves before those that were read before it, whose
        next owner would make its effects once more. Nothing to do where that never happens."""

    @abstractmethod
    async def settle(self, within_s: float) -> None:
        """For the end: form no more groups, and return when those on their way have ended, or after `within_s`.
        What is committed after it covers all that left, or it would be repeated."""

    @abstractmethod
    async def cancel(self) -> None:
        """Give up what is on its way: nothing of it will be committed."""


def waited(group: Sequence[Submission[Any]], now_s: float) -> tuple[float, str | None]:
    """Seconds since the oldest batch was read, and the trace of its first record, where that is kept."""
    oldest = min((s.batch for s in group), key=lambda batch: batch.read_s)
    return now_s - oldest.read_s, sampled_trace(oldest.records[0].headers) if oldest.records else None
