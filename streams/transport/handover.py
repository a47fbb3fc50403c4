"""How partitions come to a worker and leave it: work in flight ends within a budget, and what is finished is committed.

Knows nothing of records. A partition comes closed and opens when its state is back (`openings`); before it leaves,
nothing new is taken, batches that were read first leave first, and what does not end in time is its next owner's.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from aiokafka import TopicPartition

from streams.clock import Clock
from streams.errors import EnvironmentProblem, Retry
from streams.transport.consumer import check_partitions
from streams.transport.durable import Commit
from streams.transport.lease import Lease
from streams.transport.offsets import Offsets
from streams.transport.partitions import Partitions

log = logging.getLogger(__name__)

LAST_S = (
    2.0  # at the end, for what is on its way, then for the offsets, also when the drain took the whole budget
)


class HandoverObserver(Protocol):
    """What the metrics want to know of partitions that come and go."""

    def partitions(self, owned: int, open_: int) -> None: ...
    def rebalanced(self, seconds: float) -> None: ...


class Handover:
    """One reader's. `take` opens partitions that have come, `left` forgets what else is known of one that has gone,
    `fail` starts over, `fatal` stops the worker."""

    def __init__(
        self,
        owned: Partitions,
        offsets: Offsets,
        lease: Lease,
        clock: Clock,
        observer: HandoverObserver,
        group: str,
        *,
        partitions: int,
        drain_s: float,
        take: Callable[[list[TopicPartition]], None],
        left: Callable[[TopicPartition], None],
        stopping: Callable[[], bool],
        fail: Callable[[BaseException], None],
        fatal: Callable[[BaseException], None],
    ) -> None:
        self.commit: Commit[Any] | None = None
        self.joined = False
        self._owned = owned
        self._offsets = offsets
        self._lease = lease
        self._clock = clock
        self._observer = observer
        self._group = group
        self._partitions = partitions
        self._drain_s = drain_s
        self._take = take
        self._left = left
        self._stopping = stopping
        self._fail = fail
        self._fatal = fatal
        self._gave_up = False

    async def assign(self, assigned: Iterable[TopicPartition]) -> None:
        """Take partitions over, closed; each opens when its state is back."""
        assigned = list(assigned)
        try:
            check_partitions(assigned, self._partitions)
        except EnvironmentProblem as problem:
            self._fatal(problem)
            return
        self._lease.confirm(self._clock.monotonic_s())
        self._owned.take(assigned)
        self.joined = True
        self._observer.partitions(len(self._owned.ledgers), len(self._owned.open))
        if assigned:
            log.info("%s: owns partitions %s", self._group, sorted(tp.partition for tp in assigned))
            self._take(assigned)

    async def revoke(self, revoked: Iterable[TopicPartition]) -> None:
        """Let work in flight finish within the budget, commit, and forget the partitions."""
        revoked = [tp for tp in revoked if tp in self._owned.ledgers]
        if not revoked:
            return
        assert self.commit is not None
        started_s = self._clock.monotonic_s()
        self.commit.draining(True)
        await self._drain(self._drain_s)
        await self.commit_offsets()
        unfinished = sum(self._forget(tp) for tp in revoked)
        self.commit.draining(False)
        for tp in revoked:
            await self.commit.close(tp.partition)
        if unfinished:
            log.warning(
                "%s: %d batches were not finished in time; their next owner repeats them",
                self._group,
                unfinished,
            )
            if not self._stopping() and not self.commit.commits_offsets:
                # their effects are queued, and would land after the next owner's
                self._lease.lose()
                self._fail(Retry("partitions left with work unfinished"))
        self._observer.rebalanced(self._clock.monotonic_s() - started_s)
        self._observer.partitions(len(self._owned.ledgers), len(self._owned.open))

    def _forget(self, tp: TopicPartition) -> int:
        """The partition has left; how many of its batches were in flight."""
        lost = self._owned.forget(tp)
        self._offsets.forget(tp)
        self._left(tp)
        return len(lost)

    async def commit_offsets(self, within_s: float = math.inf) -> None:
        """Of what is finished, unless offsets travel with the effects."""
        assert self.commit is not None
        if self._owned.consumer is not None and not self.commit.commits_offsets:
            await self._offsets.commit(self._owned.consumer, self._owned.ledgers, within_s)

    async def _drain(self, budget_s: float) -> None:
        """Return when nothing is in flight, or after the budget."""
        deadline_s = self._clock.monotonic_s() + budget_s
        while self._owned.unfinished and not self._gave_up:
            left_s = deadline_s - self._clock.monotonic_s()
            if left_s <= 0:
                return
            self._owned.changed.clear()
            try:
                await asyncio.wait_for(self._owned.changed.wait(), left_s)
            except asyncio.TimeoutError:
                return

    def give_up(self) -> None:
        """While all ends: nothing in flight can be confirmed any more, so that there is no use to wait."""
        self._gave_up = True
        self._owned.changed.set()

    async def end(self, budget_s: float) -> None:
        """The worker stops: let work in flight finish within the budget, and commit."""
        if self._owned.consumer is None:
            return
        started_s = self._clock.monotonic_s()
        self._owned.pause(self._owned.open)
        assert self.commit is not None
        self.commit.draining(True)
        await self._drain(budget_s)
        if not self._gave_up:
            await self.commit.settle(LAST_S)
        left = self._owned.unfinished
        if left:
            log.warning("%s: stopping with %d batches unfinished; they will be repeated", self._group, left)
        spent_s = self._clock.monotonic_s() - started_s
        await self.commit_offsets(max(LAST_S, budget_s - spent_s))
