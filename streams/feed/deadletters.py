"""Dead letters read back, one at a time, and sent again to where they came from.

Each is replayed once, whatever filter was asked for: progress is kept a reason and number of replays (a lane), so that
none is passed over by another. It lies in the compacted topic `dlq-progress`, since brokers forget the offsets of an
idle consumer group after 7 days, and dead letters are kept for 30. It is saved every `SAVE_EVERY` records and at the
end: a crash in between may send so many twice.
A record that was replayed carries `dlt.replays`; when it fails again, the count comes back with it, and from
`max_replays` on it stays where it is (the loop guard).
"""

import asyncio
import heapq
import json
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from aiokafka import TopicPartition

from streams.clock import Clock
from streams.effects import Emit, Header
from streams.feed.tail import POLL_MS, reading, records
from streams.refusals.deadletters import LEFT_OUT, REPLAYED, number_of, original_headers, replays_of
from streams.secrecy.sealing import Seal, is_sealed
from streams.settings import Settings
from streams.topology.topics import DLQ_PROGRESS, dead_letter, prefixed
from streams.transport.producer import BatchProducer

SAVE_EVERY = 100
REASON_CHARS, MESSAGE_CHARS = 64, 1_000  # anybody may have written them
REASONS_COUNTED = 100
OTHERS = "(others)"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record of a dead-letter topic."""

    topic: str  # the input's
    partition: int  # of the dead-letter topic, and of the input
    offset: int  # in the dead-letter topic
    at_ms: int
    reason: str
    message: str
    origin_offset: int
    attempts: int
    replays: int
    left_out: bool  # its value was too large for the dead-letter topic
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    replayed: bool = False  # before it was written again
    sealed: bool = False  # and no key of ours opens it

    def as_json(self) -> dict[str, Any]:
        """What `dlq list --json` prints."""
        return {
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "at": self.at_ms,
            "reason": self.reason,
            "message": self.message,
            "origin": {"topic": self.topic, "partition": self.partition, "offset": self.origin_offset},
            "attempts": self.attempts,
            "replays": self.replays,
            "left_out": self.left_out,
        }


@dataclass(slots=True)
class Listed:
    """Of all dead letters looked at: how many for which reason, most frequent first, and the newest, oldest first."""

    counts: dict[str, int]
    newest: list[DeadLetter]  # without key, value and headers


@dataclass(slots=True)
class Replayed:
    """What a replay did, in records."""

    sent: int = 0
    looping: int = 0  # replayed too often before; left
    other_reason: int = 0  # not asked for
    done_before: int = 0
    beyond_limit: int = 0
    without_value: int = 0  # nothing to send: it was left out
    sealed: int = 0  # no key of ours opens it
    by_reason: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which dead letters to send again, and how."""

    reason: str | None = None
    limit: int | None = None
    rate_per_s: float | None = None
    max_replays: int = 3
    dry_run: bool = False


Lane = tuple[int, str, int]
"""Partition, reason, replays."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a lane was replayed. The time tells a topic that was made anew, whose offsets begin again."""

    next_offset: int = 0
    newest_ms: int = 0

    def covers(self, letter: DeadLetter) -> bool:
        """Whether it was sent before."""
        return letter.offset < self.next_offset and letter.at_ms <= self.newest_ms

    def past(self, letter: DeadLetter) -> "Progress":
        """After it was sent."""
        return Progress(letter.offset + 1, max(self.newest_ms, letter.at_ms))


async def read(settings: Settings, topic: str, partitions: int) -> AsyncGenerator[DeadLetter, None]:
    """All dead letters of an input topic that were there when it began, in order per partition. Raises KafkaError."""
    seal = Seal.read(settings.privacy.dead_letter_keys_file)
    found = records(settings, dead_letter(topic), partitions, from_beginning=True, follow=False)
    async with aclosing(found):
        async for record in found:
            yield letter_of(topic, record, seal)


def letter_of(topic: str, record: Any, seal: Seal | None = None) -> DeadLetter:
    """The dead letter in a record of the dead-letter topic, opened where we have the key."""
    headers, value, closed = dict(record.headers), record.value, is_sealed(record.headers)
    if closed and seal is not None and value is not None:
        opened = seal.open(value)
        value, closed = (value, True) if opened is None else (opened, False)
    return DeadLetter(
        topic=topic,
        partition=record.partition,
        offset=record.offset,
        at_ms=record.timestamp,
        reason=_text(headers.get("dlt.reason"), REASON_CHARS) or "unknown",
        message=_text(headers.get("__connect.errors.exception.message"), MESSAGE_CHARS),
        origin_offset=number_of(record.headers, "__connect.errors.offset", -1),
        attempts=number_of(record.headers, "dlt.attempts", 1),
        replays=replays_of(record.headers),
        left_out=LEFT_OUT in headers,
        key=record.key,
        value=value,
        headers=tuple(record.headers),
        replayed=REPLAYED in headers,
        sealed=closed,
    )


async def listed(settings: Settings, topic: str, partitions: int, reason: str | None, newest: int) -> Listed:
    """Counts and the newest dead letters of an input topic, in memory for `newest` of them. Raises KafkaError."""
    counts: Counter[str] = Counter()
    kept: list[tuple[int, int, int, DeadLetter]] = []  # a heap, oldest first
    async with aclosing(read(settings, topic, partitions)) as letters:
        async for letter in letters:
            if reason not in (None, letter.reason):
                continue
            known = letter.reason in counts or len(counts) < REASONS_COUNTED
            counts[letter.reason if known else OTHERS] += 1
            small = replace(letter, key=None, value=None, headers=())
            entry = (letter.at_ms, letter.partition, letter.offset, small)
            if len(kept) < newest:
                heapq.heappush(kept, entry)
            else:
                heapq.heappushpop(kept, entry)
    return Listed(dict(counts.most_common()), [entry[-1] for entry in sorted(kept)])


async def find(
    settings: Settings, topic: str, partitions: int, partition: int, offset: int
) -> DeadLetter | None:
    """The dead letter at an offset of the dead-letter topic, or None. Raises KafkaError."""
    if partition >= partitions:
        return None
    name = dead_letter(topic)
    async with reading(settings, {name: partitions}) as (consumer, ends):
        tp = TopicPartition(prefixed(settings.kafka.topic_prefix, name), partition)
        first: int = (await consumer.beginning_offsets([tp]))[tp]
        if not first <= offset < ends[tp]:
            return None
        consumer.seek(tp, offset)
        while await consumer.position(tp) <= offset:
            for record in (await consumer.getmany(tp, timeout_ms=POLL_MS)).get(tp, ()):
                if record.offset == offset:
                    return letter_of(topic, record, Seal.read(settings.privacy.dead_letter_keys_file))
    return None


async def replay(settings: Settings, topic: str, partitions: int, wanted: Wanted, clock: Clock) -> Replayed:
    """Send dead letters again to the partition they came from, with their own headers. Raises KafkaError, Retry."""
    done = Replayed()
    progress = await progress_of(settings, topic, partitions)
    producer = BatchProducer(settings.kafka)
    await producer.start()
    moved: set[Lane] = set()
    try:
        async with aclosing(read(settings, topic, partitions)) as letters:
            async for letter in letters:
                lane = (letter.partition, letter.reason, letter.replays)
                before = progress.get(lane, Progress())
                if not _chosen(letter, before, wanted, done):
                    continue
                if not wanted.dry_run:
                    await _send(producer, letter, clock.wall_ms())
                    if wanted.rate_per_s:
                        await asyncio.sleep(1 / wanted.rate_per_s)
                done.sent += 1
                done.by_reason[letter.reason] = done.by_reason.get(letter.reason, 0) + 1
                progress[lane] = before.past(letter)
                moved.add(lane)
                if not wanted.dry_run and done.sent % SAVE_EVERY == 0:
                    await _save(producer, topic, progress, moved, clock.wall_ms())
    finally:
        try:
            if not wanted.dry_run:
                await _save(producer, topic, progress, moved, clock.wall_ms())
        finally:
            await producer.stop(5.0)
    return done


def _chosen(letter: DeadLetter, before: Progress, wanted: Wanted, done: Replayed) -> bool:
    """Whether to send it; counts why not."""
    if wanted.reason not in (None, letter.reason):
        done.other_reason += 1
    elif letter.left_out:
        done.without_value += 1
    elif letter.sealed:
        done.sealed += 1
    elif letter.replays >= wanted.max_replays:
        done.looping += 1
    elif letter.replayed or before.covers(letter):
        done.done_before += 1
    elif wanted.limit is not None and done.sent >= wanted.limit:
        done.beyond_limit += 1
    else:
        return True
    return False


async def _send(producer: BatchProducer, letter: DeadLetter, now_ms: int) -> None:
    headers = [*original_headers(letter.headers), ("dlt.replays", str(letter.replays + 1).encode())]
    emit = Emit(letter.topic, letter.partition, [letter.key], [letter.value], [headers])
    await producer.confirmed(await producer.send(emit, now_ms))


async def progress_of(settings: Settings, topic: str, partitions: int) -> dict[Lane, Progress]:
    """How far each lane of an input topic was replayed. Partition p of the topic of progress tells of partition p."""
    found: dict[Lane, Progress] = {}
    rows = records(settings, DLQ_PROGRESS, partitions, from_beginning=True, follow=False)
    async with aclosing(rows):
        async for record in rows:
            name, partition, reason, replays = json.loads(record.key)
            if name == topic:
                found[partition, reason, replays] = Progress(*json.loads(record.value))
    return found


async def _save(
    producer: BatchProducer, topic: str, progress: dict[Lane, Progress], moved: set[Lane], now_ms: int
) -> None:
    """Write the progress of the lanes that moved; none is left moved."""
    while moved:
        lane = moved.pop()
        one = progress[lane]
        key, value = json.dumps([topic, *lane]), json.dumps([one.next_offset, one.newest_ms])
        emit = Emit(DLQ_PROGRESS, lane[0], [key.encode()], [value.encode()])
        await producer.confirmed(await producer.send(emit, now_ms))


def _text(raw: bytes | None, most: int) -> str:
    return (raw or b"")[: 4 * most].decode("utf-8", "backslashreplace")[:most]
