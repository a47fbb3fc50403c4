"""Opening partitions once their state is back, and starting over from what is durable after a failure.

One partition opens at a time: `turn` is held by whoever opens or rewinds.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from streams.clock import Clock
from streams.effects import Emit
from streams.errors import Retry
from streams.transport.durable import Commit
from streams.transport.lease import Lease
from streams.transport.offsets import committed_or_first, is_member
from streams.transport.partitions import Partitions

log = logging.getLogger(__name__)


class StatefulAgent(Protocol):
    """The part of an agent that follows its partitions."""

    async def recover(self, partition: int) -> None:
        """Bring the partition's state into memory. Raises Retry when the broker does not answer."""
        ...

    def healing(self, partition: int) -> Emit | None:
        """After `recover`: changelog rows to write again."""
        ...

    def drop(self, partition: int) -> None:
        """Forget the partition's state: another worker owns it, or memory is ahead of what is durable."""
        ...


class OpeningObserver(Protocol):
    """What the metrics want to know of openings."""

    def partitions(self, owned: int, open_: int) -> None: ...
    def rewound(self) -> None: ...
    def recovered(self, partition: int, seconds: float) -> None: ...


class Openings:
    """`stopping` tells whether the reader ends; `sleep` waits and ends early with it."""

    def __init__(
        self,
        partitions: Partitions,
        agent: StatefulAgent,
        clock: Clock,
        observer: OpeningObserver,
        lease: Lease,
        group: str,
        stopping: Callable[[], bool],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self.commit: Commit[Any] | None = None
        self._partitions = partitions
        self._agent = agent
        self._clock = clock
        self._observer = observer
        self._lease = lease
        self._group = group
        self._stopping = stopping
        self._sleep = sleep
        self._rewinding: set[TopicPartition] = set()
        self._rewind_again: set[TopicPartition] = set()
        self._turn = asyncio.Lock()

    # -- after an assignment

    async def open_all(self, tps: list[TopicPartition]) -> None:
        """Open partitions one after another."""
        for tp in sorted(tps):
            async with self._turn:
                if tp not in self._partitions.open:
                    await self._open(tp)

    async def _open(self, tp: TopicPartition) -> None:
        """Tries for as long as the partition is owned."""
        ledger = self._partitions.ledgers.get(tp)
        backoff_s = 0.2
        while not self._stopping() and ledger is not None and self._partitions.ledgers.get(tp) is ledger:
            started_s = self._clock.monotonic_s()
            try:
                if not await self._recovered(tp):
                    return
            except (Retry, KafkaError, OSError) as error:
                log.warning("%s: cannot recover partition %d yet: %s", self._group, tp.partition, error)
                await self._sleep(backoff_s)
                backoff_s = min(backoff_s * 2, 5.0)
                continue
            if self._partitions.ledgers.get(tp) is ledger:
                self._begin(tp, started_s)
            elif tp not in self._partitions.ledgers:  # it left meanwhile
                self._agent.drop(tp.partition)
            return

    async def _recovered(self, tp: TopicPartition) -> bool:
        """Bring the state back; False when the partition has another owner. Raises Retry, KafkaError, OSError."""
        commit = self.commit
        assert commit is not None
        if not await self._open_commits(tp):
            return False
        await self._agent.recover(tp.partition)
        overtaken = self._agent.healing(tp.partition)
        if overtaken is not None:
            log.warning(
                "%s: %d rows of partition %d had been followed by older ones of a worker that had lost it; "
                "they are written again",
                self._group,
                len(overtaken.values),
                tp.partition,
            )
            await commit.heal(overtaken)
        if commit.commits_offsets:  # a transaction of the one before may have moved it
            self._partitions.resume_at[tp] = await self._committed_offset(tp)
        return True

    async def _open_commits(self, tp: TopicPartition) -> bool:
        """Let the partition's effects be written by this worker alone, where transactions can see to that. False
        when the group says that it has another owner: fencing that one would be wrong."""
        assert self.commit is not None
        if self.commit.commits_offsets and tp in self._rewinding:
            assert self._partitions.consumer is not None
            if not await is_member(self._partitions.consumer):
                log.info("%s: partition %d has left", self._group, tp.partition)
                return False
        await self.commit.open(tp.partition)
        return True

    def _begin(self, tp: TopicPartition, started_s: float) -> None:
        """The state is back: read from where the group stands."""
        partitions = self._partitions
        if partitions.consumer is None:  # stopped meanwhile
            return
        self._observer.recovered(tp.partition, self._clock.monotonic_s() - started_s)
        start = partitions.resume_at.pop(tp, None)
        if start is not None:
            partitions.consumer.seek(tp, start)
        partitions.open.add(tp)
        if not self._stopping():
            partitions.resume([tp])
        self._observer.partitions(len(partitions.ledgers), len(partitions.open))

    # -- after a failure

    def begin_rewind(self, tps: set[TopicPartition]) -> bool:
        """Close partitions whose effects were not confirmed; whether `start_over` is to follow. False while one is
        under way that will see to them."""
        if tps and tps <= self._rewinding:
            self._rewind_again |= tps  # what was opened meanwhile is ahead of what is durable, too
            return False
        self._rewinding |= tps
        self._partitions.close(tps)  # at once; an opening that is under way may have to be undone later
        return True

    async def start_over(self, tps: set[TopicPartition]) -> None:
        """Drop all memory that may be ahead of what is durable and read again from the committed offsets."""
        async with self._turn:
            while not self._stopping():
                await self._rewind(tps)
                again = self._rewind_again & tps
                self._rewind_again -= tps
                if not again:
                    break
            self._rewinding -= tps

    async def _rewind(self, tps: set[TopicPartition]) -> None:
        commit, partitions = self.commit, self._partitions
        assert commit is not None
        self._observer.rewound()
        ledgers = {tp: ledger for tp, ledger in partitions.ledgers.items() if tp in tps}
        partitions.close(ledgers)
        safe = {tp: ledger.committable for tp, ledger in ledgers.items()}
        for tp in ledgers:
            partitions.rewind(tp, keep_committable=not commit.commits_offsets)
        await commit.reset([tp.partition for tp in ledgers])
        self._rewind_again -= tps  # what failed until here is given up
        self._lease.renew()
        for tp, ledger in ledgers.items():
            if partitions.ledgers.get(tp) is not ledger:  # it left meanwhile, and perhaps came back
                continue
            self._agent.drop(tp.partition)
            start = safe[tp]
            partitions.resume_at[tp] = await self._committed_offset(tp) if start is None else start
            await self._open(tp)

    async def _committed_offset(self, tp: TopicPartition) -> int:
        """Raises Retry when the reader stops meanwhile."""
        backoff_s = 0.2
        while self._partitions.consumer is not None and not self._stopping():
            try:
                return await committed_or_first(self._partitions.consumer, tp)
            except KafkaError as error:
                log.warning("%s: no answer about committed offsets yet: %s", self._group, error)
                await self._sleep(backoff_s)
                backoff_s = min(backoff_s * 2, 5.0)
        raise Retry("stopped while waiting for committed offsets")
