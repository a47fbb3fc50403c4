"""Dead letters read back, and sent again to where they came from.

Each is replayed once, whatever filter was asked for: progress is kept as committed offsets of one consumer group a
reason and number of replays (`<group>.dlq.<reason>.<replays>`), so that none is passed over by another. It is saved
every `SAVE_EVERY` records and at the end: a crash in between may send so many twice.
A record that was replayed carries `dlt.replays`; when it fails again, the count comes back with it, and from
`max_replays` on it stays where it is (the loop guard).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.clock import Clock
from streams.deadletters import number_of, original_headers, replays_of
from streams.effects import Emit, Header
from streams.feed.tail import records
from streams.settings import Settings
from streams.topics import dead_letter, prefixed
from streams.transport.client import client_options, close
from streams.transport.producer import BatchProducer

SAVE_EVERY = 100
Lane = tuple[str, int]  # reason, replays


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
    replays: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]

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
            "replays": self.replays,
        }


@dataclass(slots=True)
class Replayed:
    """What a replay did, in records."""

    sent: int = 0
    looping: int = 0  # replayed too often before; left
    other_reason: int = 0  # not asked for
    done_before: int = 0
    beyond_limit: int = 0
    by_reason: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which dead letters to send again, and how."""

    reason: str | None = None
    limit: int | None = None
    rate_per_s: float | None = None
    max_replays: int = 3
    dry_run: bool = False


async def read(settings: Settings, topic: str, partitions: int) -> list[DeadLetter]:
    """All dead letters of an input topic, in order per partition. Raises KafkaError."""
    found = []
    reading = records(settings, dead_letter(topic), partitions, from_beginning=True, follow=False)
    async for record in reading:
        headers = dict(record.headers)
        found.append(
            DeadLetter(
                topic=topic,
                partition=record.partition,
                offset=record.offset,
                at_ms=record.timestamp,
                reason=_text(headers.get("dlt.reason")) or "unknown",
                message=_text(headers.get("__connect.errors.exception.message")),
                origin_offset=number_of(record.headers, "__connect.errors.offset", -1),
                replays=replays_of(record.headers),
                key=record.key,
                value=record.value,
                headers=tuple(record.headers),
            )
        )
    return found


async def replay(settings: Settings, topic: str, partitions: int, wanted: Wanted, clock: Clock) -> Replayed:
    """Send dead letters again to the partition they came from, with their own headers. Raises KafkaError, Retry."""
    letters = await read(settings, topic, partitions)
    done = Replayed()
    lanes = {_lane(one) for one in letters if one.replays < wanted.max_replays}
    progress = {
        lane: await _progress(settings, topic, lane, partitions)
        for lane in sorted(lanes)
        if wanted.reason in (None, lane[0])
    }
    producer = BatchProducer(settings.kafka)
    await producer.start()
    moved: set[Lane] = set()
    try:
        for letter in letters:
            if not _chosen(letter, progress, wanted, done):
                continue
            if not wanted.dry_run:
                await _send(producer, letter, clock.wall_ms())
                if wanted.rate_per_s:
                    await asyncio.sleep(1 / wanted.rate_per_s)
            done.sent += 1
            done.by_reason[letter.reason] = done.by_reason.get(letter.reason, 0) + 1
            progress[_lane(letter)][letter.partition] = letter.offset + 1
            moved.add(_lane(letter))
            if not wanted.dry_run and done.sent % SAVE_EVERY == 0:
                await _save(settings, topic, progress, moved)
    finally:
        await producer.stop(5.0)
        if not wanted.dry_run:
            await _save(settings, topic, progress, moved)
    return done


def _lane(letter: DeadLetter) -> Lane:
    return letter.reason, letter.replays


def _chosen(letter: DeadLetter, progress: dict[Lane, dict[int, int]], wanted: Wanted, done: Replayed) -> bool:
    """Whether to send it; counts why not."""
    if wanted.reason not in (None, letter.reason):
        done.other_reason += 1
    elif letter.replays >= wanted.max_replays:
        done.looping += 1
    elif letter.offset < progress[_lane(letter)][letter.partition]:
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


def _consumer(settings: Settings, lane: Lane) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        **client_options(settings.kafka),
        group_id=f"{settings.kafka.group}.dlq.{lane[0]}.{lane[1]}",
        enable_auto_commit=False,
    )


async def _progress(settings: Settings, topic: str, lane: Lane, partitions: int) -> dict[int, int]:
    """Partition -> the first offset that was not yet replayed."""
    consumer = _consumer(settings, lane)
    await consumer.start()
    try:
        name = prefixed(settings.kafka.topic_prefix, dead_letter(topic))
        return {p: await consumer.committed(TopicPartition(name, p)) or 0 for p in range(partitions)}
    finally:
        await close(consumer)


async def _save(
    settings: Settings, topic: str, progress: dict[Lane, dict[int, int]], moved: set[Lane]
) -> None:
    """Commit the progress of the lanes that moved; none is left moved."""
    name = prefixed(settings.kafka.topic_prefix, dead_letter(topic))
    while moved:
        lane = moved.pop()
        consumer = _consumer(settings, lane)
        await consumer.start()
        try:
            offsets = {TopicPartition(name, p): offset for p, offset in progress[lane].items() if offset}
            consumer.assign(list(offsets))
            await consumer.commit(offsets)
        finally:
            await close(consumer)


def counts(letters: Sequence[DeadLetter]) -> dict[str, int]:
    """Dead letters by reason, most frequent first."""
    found: dict[str, int] = {}
    for letter in letters:
        found[letter.reason] = found.get(letter.reason, 0) + 1
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8", "backslashreplace")
