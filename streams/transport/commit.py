"""Group commit: performs the effects of many partition batches at once, in the order of durability.

    outputs sent -> confirmed -> changelog gathered, sent -> confirmed -> batches done -> offsets

Groups send in the order in which they were decided. All batches that are waiting leave together, over all
partitions; the next group starts at once while earlier ones are on their way (bounded). Two things hold at every
moment, also after a crash:

  * a durable changelog row implies that the outputs it caused are durable;
  * a committed offset implies that the changelog rows of everything before it are durable.

A group that fails takes all later groups with it (their rows already contain its effects); the owner then drops
the partitions' memory, reads it back from the changelog and starts again at the committed offsets.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, TypeVar

from aiokafka.errors import KafkaError

from streams.clock import Clock
from streams.effects import Effects, Emit
from streams.errors import Retry
from streams.transport.batch import PartitionBatch
from streams.transport.durable import Commit, CommitObserver, Submission, waited
from streams.transport.ledger import Entry
from streams.transport.producer import BatchProducer, ignore_result
from streams.transport.rows import RowWriter
from streams.transport.solewriter import SoleWriter

log = logging.getLogger(__name__)

W = TypeVar("W")

RESET_WITHIN_S = (
    5.0  # a connection that is given up fails all that it has at once; a group has only to hear of it
)


class GroupCommit(Commit[W]):
    """One agent's group commits. `decide` is called on the event loop, a group at a time, in order."""

    def __init__(
        self,
        *,
        decide: Callable[[Sequence[Submission[W]]], Effects],
        producer: BatchProducer,
        finish: Callable[[PartitionBatch], None],
        failed: Callable[[BaseException], None],
        in_flight: Callable[[int], Sequence[Entry]],
        clock: Clock,
        observer: CommitObserver,
        groups_in_flight: int,
        group_records: int,
        interval_s: float = 0.0,
        changelog_interval_s: float = 0.0,
    ) -> None:
        self._decide = decide
        self._producer = producer
        self._finish = finish
        self._failed = failed
        self._in_flight = in_flight
        self._clock = clock
        self._observer = observer
        self._slots = asyncio.Semaphore(groups_in_flight)
        self._group_records = group_records
        self._interval_s = interval_s
        self._waiting: list[Submission[W]] = []
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._chain: asyncio.Future[None] | None = None
        self._writer = SoleWriter()
        self._rows = RowWriter(self._send, producer.confirmed, self._watch, clock, changelog_interval_s)
        self._draining = False
        self._settling = False
        self._generation = 0  # of the producer's connection; a group of an earlier one sends nothing more
        # Fair: groups queue their outputs one after the other, or a later list could pass an earlier one while
        # the earlier group waits for room on another partition.
        self._outputs_turn = asyncio.Lock()

    def submit(self, batch: PartitionBatch, work: W) -> None:
        self._waiting.append(Submission(batch, work))
        self._wake.set()

    def fail(self, error: BaseException | None) -> None:
        self._failed(error or RuntimeError("an agent stopped without a reason"))

    async def run(self) -> None:
        next_s = 0.0
        while not self._settling:
            await self._wake.wait()
            wait_s = next_s - self._clock.monotonic_s()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            next_s = self._clock.monotonic_s() + self._interval_s
            await self._slots.acquire()
            group = self._next_group()
            if not group:
                self._slots.release()
                continue
            started_s = self._clock.monotonic_s()
            effects = self._decide(group)
            records = sum(len(s.batch.records) for s in group)
            self._observer.group_decided(len(group), records, self._clock.monotonic_s() - started_s)
            before, self._chain = self._chain, asyncio.get_running_loop().create_future()
            work = self._perform(group, effects, before, self._chain, self._generation)
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._ended)
            if self._waiting:
                await asyncio.sleep(0)  # the sends of this group go first, then the next is formed

    def _next_group(self) -> list[Submission[W]]:
        """What is waiting, oldest first, up to the bound: a decision runs on the event loop, and heartbeats wait."""
        if self._settling:
            return []
        ready, records, taken = self._in_order() if self._draining else self._waiting, 0, 0
        while taken < len(ready) and records < self._group_records:
            records += len(ready[taken].batch.records)
            taken += 1
        group, left = ready[:taken], ready[taken:]
        for submission in group:
            submission.batch.entry.sent = True
        self._waiting = [one for one in self._waiting if not one.batch.entry.sent] if self._draining else left
        if not left:
            self._wake.clear()
        return [submission for submission in group if not submission.batch.lost]

    def _in_order(self) -> list[Submission[W]]:
        """What waits, without what would leave before a batch that was read before it."""
        waiting = {id(one.batch.entry) for one in self._waiting}
        free = set()
        for partition in {one.batch.partition for one in self._waiting}:
            for entry in self._in_flight(partition):
                if id(entry) in waiting:
                    free.add(id(entry))
                elif not entry.sent:
                    break
        return [one for one in self._waiting if id(one.batch.entry) in free]

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._slots.release()
        if not task.cancelled() and task.exception() is not None:
            self.fail(task.exception())

    async def _perform(
        self,
        group: Sequence[Submission[W]],
        effects: Effects,
        before: "asyncio.Future[None] | None",
        sent: "asyncio.Future[None]",
        generation: int,
    ) -> None:
        started_s = self._clock.monotonic_s()
        try:
            async with self._outputs_turn:
                pending = await self._send(effects.outputs, generation)
                self._rows.outputs_leave()
            await self._producer.confirmed(chain(*pending))
            if before is not None:
                await asyncio.shield(before)
            written = self._rows.add(effects.changelog, [s.batch for s in group], generation)
            _resolve(sent, None)
            await asyncio.shield(written)
        except Retry as error:
            _resolve(sent, error)
            self._observer.group_failed(len(group))
            if generation == self._generation:  # else it is known, and the start over is under way
                self._failed(error)
            return
        except BaseException:
            _resolve(sent, Retry("an earlier group was cancelled"))
            raise
        for submission in group:
            self._finish(submission.batch)
        now_s = self._clock.monotonic_s()
        records = sum(len(s.batch.records) for s in group)
        self._observer.group_done(records, now_s - started_s, *waited(group, now_s))

    def _watch(self, emit: Emit, pending: Sequence[Any], generation: int) -> None:
        """Notice, once it is confirmed, whether others wrote between ours. Called back in the order of the log."""

        def landed(future: "asyncio.Future[Any]") -> None:
            if generation != self._generation or future.cancelled() or future.exception() is not None:
                return
            if future.result() is None:
                return
            offset = future.result().offset
            foreign = self._writer.wrote(emit.topic, emit.partition, offset, len(emit.values))
            if foreign:
                self._observer.foreign_rows(foreign)
                self._failed(Retry(f"{foreign} rows of {emit.topic}[{emit.partition}] are not ours"))

        if pending:
            pending[0].add_done_callback(landed)

    async def _send(self, emits: Sequence[Emit], generation: int) -> list[list[Any]]:
        """The awaitables of each effect."""
        now_ms = self._clock.wall_ms()
        pending: list[list[Any]] = []
        try:
            for emit in emits:
                if generation != self._generation:
                    raise Retry("an earlier group failed")
                pending.append(await self._producer.send(emit, now_ms))
        except Retry:
            for future in chain(*pending):
                ignore_result(future)
            raise
        return pending

    async def heal(self, rows: Emit) -> None:
        (pending,) = await self._send([rows], self._generation)
        await self._producer.confirmed(pending)

    async def close(self, partition: int) -> None:
        self._writer.forget(partition)

    async def reset(self, partitions: Sequence[int]) -> None:
        """Connect anew, so that nothing queued can pass what failed; wait until no group is on its way, a bounded
        time, and forget what waits. After it the chain starts anew."""
        self._generation += 1
        self._writer.forget()
        backoff_s = 0.2
        while True:
            try:
                await self._producer.restart()
                break
            except (KafkaError, OSError) as error:
                log.warning("cannot connect to the broker yet: %r", error)
                await asyncio.sleep(backoff_s)
                backoff_s = min(backoff_s * 2, 5.0)
        await self._ended_all(RESET_WITHIN_S)
        self._waiting.clear()
        self._chain = None

    async def _ended_all(self, within_s: float) -> None:
        """Return when no group is on its way; those that do not end within the time are given up. Their connection is
        closed: what they have sent has failed, and they send nothing more."""
        until_s = self._clock.monotonic_s() + within_s
        while self._tasks:
            left_s = until_s - self._clock.monotonic_s()
            if left_s <= 0:
                log.warning("%d groups did not end with their connection: given up", len(self._tasks))
                await self._give_up()
                return
            await asyncio.wait(set(self._tasks), timeout=left_s)

    async def _give_up(self) -> None:
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)

    def draining(self, on: bool) -> None:
        self._draining = on
        if self._waiting:
            self._wake.set()

    async def settle(self, within_s: float) -> None:
        self._settling = True
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=within_s)

    async def cancel(self) -> None:
        await self._give_up()
        await self._rows.cancel()
        self._waiting.clear()
        self._chain = None


def _resolve(future: "asyncio.Future[None]", error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
        future.exception()  # seen: nobody may be waiting on it
