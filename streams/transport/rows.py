"""Changelog rows of groups whose outputs are durable: what comes in a short while leaves in one write.

A write costs a worker and its broker the same whether it holds one group's rows or five groups'. Nobody waits for rows
but the offsets, which are committed once a second; so while groups follow each other closely theirs gather for
`interval_s`. Once most of it is over they leave with the next group's outputs, in one request. After a pause a write
begins at once. Writes leave in the order of their groups.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from streams.clock import Clock
from streams.effects import Emit
from streams.transport.batch import PartitionBatch

EARLY = 1 / 3  # of the interval: rows leave so much before its end where outputs leave

Send = Callable[[Sequence[Emit], int], Awaitable[list[list[Any]]]]
"""Queues effects for a connection's generation; the awaitables of each. Raises Retry."""


@dataclass(slots=True, eq=False)
class _Write:
    """What gathers for one write."""

    generation: int  # of the producer's connection
    rows: list[tuple[Emit, Sequence[PartitionBatch]]] = field(default_factory=list)
    leave: asyncio.Event = field(default_factory=asyncio.Event)
    task: "asyncio.Task[None] | None" = None


class RowWriter:
    """One agent's changelog. `sent` hears of each effect with its awaitables, in order, before they are confirmed."""

    def __init__(
        self,
        send: Send,
        confirmed: Callable[[Sequence[Any]], Awaitable[None]],
        sent: Callable[[Emit, Sequence[Any], int], None],
        clock: Clock,
        interval_s: float,
    ) -> None:
        self._send, self._confirmed, self._sent = send, confirmed, sent
        self._clock = clock
        self._interval_s = interval_s
        self._gathering: _Write | None = None
        self._next_s = 0.0
        self._turn = asyncio.Lock()  # fair: no write passes one that waits for room
        self._tasks: set[asyncio.Task[None]] = set()

    def add(
        self, rows: Sequence[Emit], batches: Sequence[PartitionBatch], generation: int
    ) -> "asyncio.Task[None]":
        """Rows of the next group, which `batches` caused; those of batches that are lost by then are left out. The
        write that they are in: shield it, others wait for it too. It raises Retry."""
        write = self._gathering
        if write is None or write.generation != generation:
            write = self._gathering = _Write(generation)
            write.task = asyncio.create_task(self._perform(write))
            self._tasks.add(write.task)
            write.task.add_done_callback(self._ended)
        write.rows += [(emit, batches) for emit in rows]
        assert write.task is not None
        return write.task

    def outputs_leave(self) -> None:
        """A group's outputs have just been queued: what is about to leave leaves with them."""
        write = self._gathering
        if write is not None and self._next_s - self._clock.monotonic_s() < self._interval_s * EARLY:
            write.leave.set()

    async def cancel(self) -> None:
        """Give up what has not left."""
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)
        self._gathering = None

    async def _perform(self, write: _Write) -> None:
        wait_s = self._next_s - self._clock.monotonic_s()
        if wait_s > 0:
            timer = asyncio.get_running_loop().call_later(wait_s, write.leave.set)
            try:
                await write.leave.wait()
            finally:
                timer.cancel()
        async with self._turn:
            if self._gathering is write:
                self._gathering = None
            self._next_s = self._clock.monotonic_s() + self._interval_s
            emits = _joined(write.rows)
            pending = await self._send(emits, write.generation)
            for emit, futures in zip(emits, pending, strict=True):
                self._sent(emit, futures, write.generation)
        await self._confirmed([future for futures in pending for future in futures])

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen: its groups may have been cancelled


def _joined(rows: Sequence[tuple[Emit, Sequence[PartitionBatch]]]) -> list[Emit]:
    """One effect a partition, in the order in which they came; without those of lost batches."""
    keys: dict[tuple[str, int], list[bytes | None]] = {}
    values: dict[tuple[str, int], list[bytes | memoryview | None]] = {}
    for emit, batches in rows:
        if any(batch.lost and batch.partition == emit.partition for batch in batches):
            continue
        place = emit.topic, emit.partition
        keys.setdefault(place, []).extend(emit.keys)
        values.setdefault(place, []).extend(emit.values)
    return [Emit(*place, keys[place], values[place]) for place in keys]
