"""Dead letters of readers who are to be forgotten, taken out of the dead-letter topics.

Kafka removes records only from the front of a partition. So a partition that holds such letters is written anew behind
itself, without them, and then its old part is removed. Nothing is lost when this ends half-way: the next try does it
again, and other letters may then be there twice. A letter that is written again says when it was first written
(`dlt.at`; it still goes after 30 days) and whether it was replayed (`dlt.replayed`). A partition without such letters
is read and left alone.
"""

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.errors import (
    IncompatibleBrokerVersion,
    KafkaConnectionError,
    KafkaError,
    PolicyViolationError,
    UnsupportedVersionError,
)

from streams.effects import Emit, Header
from streams.errors import NoBroker, Retry
from streams.feed.deadletters import Progress, letter_of, progress_of
from streams.feed.tail import reading
from streams.refusals.deadletters import FIRST_AT, REPLAYED
from streams.secrecy.sealing import Seal, is_sealed
from streams.settings import Settings
from streams.topology.admin import admin_client
from streams.topology.topics import CLICKS, DAY_MS, PRIVACY, dead_letter
from streams.transport.client import check_not_refused
from streams.transport.producer import BatchProducer

KEPT_MS = 30 * DAY_MS
POLL_MS = 200
TOGETHER = 200
HANG_UPS = 3
KEYED_BY_USER = (CLICKS, PRIVACY)


async def erase(settings: Settings, users: Collection[str], now_ms: int) -> int | None:
    """Remove all dead letters whose key, value or headers name one of the users; how many there were. None: the broker
    cannot remove records, and they are left as they were.

    Raises Retry; EnvironmentProblem when the broker refuses it to us.
    """
    try:
        return await _erase_all(settings, users, now_ms)
    except (KafkaError, OSError, NoBroker) as error:
        check_not_refused(error.__cause__ or error, settings.kafka)
        raise Retry(f"dead letters are not removed yet: {error}") from error


async def _erase_all(settings: Settings, users: Collection[str], now_ms: int) -> int | None:
    names = Names.of(users, Seal.read(settings.privacy.dead_letter_keys_file))
    removed = 0
    for topic in KEYED_BY_USER:
        name, partitions = dead_letter(topic), settings.topics.partitions
        async with reading(settings, {name: partitions}) as (consumer, ends):
            begins = await consumer.beginning_offsets(list(ends))
            for tp, end in ends.items():
                if begins[tp] == end:
                    continue
                consumer.assign([tp])
                found = await _erase(settings, topic, consumer, tp, (begins[tp], end), names, now_ms)
                if found is None:
                    return None
                removed += found
    return removed


async def _erase(
    settings: Settings,
    topic: str,
    consumer: Any,
    tp: TopicPartition,
    span: tuple[int, int],
    names: "Names",
    now_ms: int,
) -> int | None:
    """Of one partition, from the first offset of the span up to the second."""
    found = 0
    async with aclosing(_letters(consumer, tp, *span)) as letters:
        async for one in letters:
            found += names.are_of(one)
    if not found:
        return 0
    if not await _can_remove(settings, tp, span[0]):
        return None
    progress = await progress_of(settings, topic, settings.topics.partitions)
    producer = BatchProducer(settings.kafka)
    await producer.start()
    try:
        kept: list[Any] = []
        async with aclosing(_letters(consumer, tp, *span)) as letters:
            async for one in letters:
                if not names.are_of(one) and now_ms - _first_at(one) < KEPT_MS:
                    kept.append(one)
                if len(kept) == TOGETHER:
                    await _again(producer, topic, tp.partition, kept, progress, now_ms)
                    kept = []
        await _again(producer, topic, tp.partition, kept, progress, now_ms)
    finally:
        await producer.stop(5.0)
    async with admin_client(settings.kafka) as client:
        await client.delete_records({tp: RecordsToDelete(span[1])})
    return found


async def _letters(consumer: Any, tp: TopicPartition, begin: int, end: int) -> AsyncGenerator[Any, None]:
    """The records begin..end, one after another."""
    consumer.seek(tp, begin)
    while await consumer.position(tp) < end:
        for record in (await consumer.getmany(tp, timeout_ms=POLL_MS)).get(tp, ()):
            if record.offset < end:
                yield record


async def _can_remove(settings: Settings, tp: TopicPartition, begin: int) -> bool:
    """Whether the broker removes records at all; asked by removing none.

    Tansu 0.6 hangs up on a request that it does not know: a broker that answers others and never this one has it not.
    """
    for _ in range(HANG_UPS):
        async with admin_client(settings.kafka) as client:
            await client.describe_topics()
            try:
                await client.delete_records({tp: RecordsToDelete(begin)})
                return True
            except (IncompatibleBrokerVersion, UnsupportedVersionError, PolicyViolationError):
                return False
            except KafkaConnectionError:
                continue
    return False


@dataclass(frozen=True, slots=True)
class Names:
    """Readers who are looked for."""

    names: frozenset[bytes]
    seal: Seal | None

    @classmethod
    def of(cls, users: Collection[str], seal: Seal | None) -> "Names":
        return cls(frozenset(user.encode() for user in users), seal)

    def are_of(self, record: Any) -> bool:
        """Whether the record is one of these readers': by its key; without one, by any of its bytes."""
        if record.key is not None:
            return record.key in self.names
        value = record.value or b""
        if self.seal is not None and is_sealed(record.headers):
            value = self.seal.open(value) or value
        parts = [value, *(content or b"" for _, content in record.headers)]
        return any(name in part for name in self.names for part in parts)


def _first_at(record: Any) -> int:
    said = dict(record.headers).get(FIRST_AT) or b""
    return int(said) if said.isdigit() and len(said) < 16 else int(record.timestamp)


async def _again(
    producer: BatchProducer,
    topic: str,
    partition: int,
    letters: Sequence[Any],
    progress: Mapping[tuple[int, str, int], Progress],
    now_ms: int,
) -> None:
    if not letters:
        return
    headers = [_headers(topic, one, progress) for one in letters]
    emit = Emit(
        dead_letter(topic), partition, [one.key for one in letters], [one.value for one in letters], headers
    )
    await producer.confirmed(await producer.send(emit, now_ms))


def _headers(topic: str, record: Any, progress: Mapping[tuple[int, str, int], Progress]) -> list[Header]:
    letter = letter_of(topic, record)
    before = progress.get((letter.partition, letter.reason, letter.replays), Progress())
    headers = [(name, value) for name, value in record.headers if name not in (FIRST_AT, REPLAYED)]
    headers.append((FIRST_AT, str(_first_at(record)).encode()))
    if letter.replayed or before.covers(letter):
        headers.append((REPLAYED, b"1"))
    return headers
