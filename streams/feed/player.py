"""Plays records into a cluster: in order per key, at the recording's pace or as fast as it goes.

Records are gathered into chunks and each chunk leaves as one batch a partition. At most `IN_FLIGHT` chunks are
unconfirmed; then reading waits for the broker.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from streams.clock import Clock
from streams.effects import Emit, Header
from streams.errors import EnvironmentProblem, Retry
from streams.feed.records import Outgoing, partition_of
from streams.transport.producer import BatchProducer

CHUNK_RECORDS = 2000
CHUNK_BYTES = 4 << 20
CHUNK_S = 0.05
"""At a recording's pace a chunk waits at most so long."""
IN_FLIGHT = 16
REPORT_EVERY_S = 1.0


@dataclass(slots=True)
class Played:
    """How far a play has come. `sent` counts confirmed records by topic."""

    sent: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def total(self) -> int:
        return sum(self.sent.values())

    @property
    def per_s(self) -> float:
        return self.total / self.seconds if self.seconds else 0.0


@dataclass(slots=True)
class _Chunk:
    keys: list[bytes] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    headers: list[list[Header]] = field(default_factory=list)


class Player:
    """Plays iterables of records one after another. `partitions`: topic -> count, of every topic it may meet."""

    def __init__(
        self,
        producer: BatchProducer,
        partitions: Mapping[str, int],
        clock: Clock,
        report: Callable[[Played], None] | None = None,
    ) -> None:
        self._producer = producer
        self._partitions = partitions
        self._clock = clock
        self._report = report
        self._unconfirmed: deque[tuple[dict[str, int], list[Awaitable[Any]]]] = deque()
        self._waiting: defaultdict[tuple[str, int], _Chunk] = defaultdict(_Chunk)
        self._records = 0
        self._bytes = 0
        self._played = Played()
        self._started_s = 0.0
        self._reported_s = 0.0

    async def play(self, records: Iterable[Outgoing], speed: float | None) -> Played:
        """Send all; returns when the broker has confirmed them. `speed` None: as fast as it goes.

        Raises EnvironmentProblem when the broker stops taking records: what was confirmed stays.
        """
        self._played = Played()
        self._started_s = self._reported_s = self._clock.monotonic_s()
        pace = _Pace(speed, self._clock) if speed is not None else None
        chunk_s = self._started_s
        try:
            for record in records:
                if pace is not None:
                    ahead_s = pace.ahead_s(record.play_ms)
                    if ahead_s > 0 or self._clock.monotonic_s() - chunk_s > CHUNK_S:
                        await self._send()
                        await self._settle(0 if ahead_s > CHUNK_S else IN_FLIGHT)
                        await asyncio.sleep(max(pace.ahead_s(record.play_ms), 0.0))
                        chunk_s = self._clock.monotonic_s()
                self._take(record)
                if self._records >= CHUNK_RECORDS or self._bytes >= CHUNK_BYTES:
                    await self._send()
                    await self._settle(IN_FLIGHT)
            await self._send()
            await self._settle(0)
        except Retry as error:
            raise EnvironmentProblem(
                f"the broker stopped taking records after {self._played.total} were confirmed: {error}"
            ) from error
        self._played.seconds = self._clock.monotonic_s() - self._started_s
        return self._played

    async def send(self, records: Iterable[Outgoing]) -> Played:
        """Send these now and go on without waiting for the broker, unless too much is unconfirmed.

        Returns the same growing account each time. Raises Retry when the broker stops taking records.
        """
        for record in records:
            self._take(record)
        await self._send()
        await self._settle(IN_FLIGHT)
        return self._played

    def _take(self, record: Outgoing) -> None:
        chunk = self._waiting[record.topic, partition_of(record.key, self._partitions[record.topic])]
        chunk.keys.append(record.key)
        chunk.values.append(record.value)
        chunk.headers.append(record.headers)
        self._records += 1
        self._bytes += len(record.value)

    async def _send(self) -> None:
        """Queue what waits, one batch a partition. Records carry the present: a broker's retention counts
        from it, and would drop a recording of last year at once."""
        waiting, self._waiting = self._waiting, defaultdict(_Chunk)
        self._records = self._bytes = 0
        if not waiting:
            return
        counts: dict[str, int] = {}
        pending: list[Awaitable[Any]] = []
        self._unconfirmed.append((counts, pending))
        for (topic, partition), chunk in waiting.items():
            emit = Emit(topic, partition, chunk.keys, chunk.values, chunk.headers)
            pending += await self._producer.send(emit, self._clock.wall_ms())
            counts[topic] = counts.get(topic, 0) + len(chunk.keys)

    async def _settle(self, left: int) -> None:
        """Wait until at most `left` chunks are unconfirmed, and report once a second."""
        while len(self._unconfirmed) > left:
            counts, pending = self._unconfirmed.popleft()
            await self._producer.confirmed(pending)
            for topic, count in counts.items():
                self._played.sent[topic] = self._played.sent.get(topic, 0) + count
        now_s = self._clock.monotonic_s()
        if self._report is not None and now_s - self._reported_s >= REPORT_EVERY_S:
            self._reported_s = now_s
            self._played.seconds = now_s - self._started_s
            self._report(self._played)


class _Pace:
    """When a record is due: its distance from the first one, divided by the speed."""

    def __init__(self, speed: float, clock: Clock) -> None:
        self._speed = speed
        self._clock = clock
        self._first: tuple[int, float] | None = None

    def ahead_s(self, play_ms: int) -> float:
        """Seconds until it is due; negative when late."""
        now_s = self._clock.monotonic_s()
        if self._first is None:
            self._first = (play_ms, now_s)
        first_ms, start_s = self._first
        return start_s + (play_ms - first_ms) / 1000 / self._speed - now_s
