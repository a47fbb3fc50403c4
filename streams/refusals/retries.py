"""Retry topics: what failed for a reason that may pass is sent there, byte for byte, and tried again later.

The headers say where the record lay first, how often it was tried, why that failed and before when it is not to be
tried again. Pure: the time and what chance decides are arguments.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from xxhash import xxh3_64_intdigest as hash_of

from streams.effects import Emit, Header, batch_bytes
from streams.refusals.deadletters import number_of
from streams.refusals.rejected import Place, Rejected
from streams.sections.media import Media
from streams.topology.topics import retry
from streams.transport.batch import Record

PREFIX = "headrace.retry."
MESSAGE_CHARS = 300
ADDED_BYTES = 2_048  # what the headers below take at most


@dataclass(frozen=True, slots=True)
class Failed:
    """A record that may succeed later, and how long to wait until then."""

    rejected: Rejected
    place: Place
    wait_s: float


def place_of(source: str, topic: str, partition: int, record: Record) -> Place:
    """Of a record on `topic`, the retry topic of `source`. One that no worker put there stands for itself."""
    headers = dict(record.headers)
    offset = number_of(record.headers, f"{PREFIX}offset", -1)
    if headers.get(f"{PREFIX}topic") != source.encode() or offset < 0:
        return Place(topic, partition, record.offset, record.timestamp)
    return Place(
        source,
        number_of(record.headers, f"{PREFIX}partition", partition),
        offset,
        number_of(record.headers, f"{PREFIX}timestamp", record.timestamp),
        number_of(record.headers, f"{PREFIX}attempts", 0) + 1,
    )


def left_ms(record: Record, now_ms: int, longest_s: float) -> int:
    """How long it has still to wait; 0 or less: it is due. One that says longer than the longest wait there is, is due:
    its header, or a clock, is wrong, and nothing may hold a partition for ever."""
    left = number_of(record.headers, f"{PREFIX}not-before", 0) - now_ms
    return left if left <= longest_s * 1000 else 0


def wait_s(place: Place, media: Media) -> float:
    """How long to wait after so many attempts: doubled each time up to the longest, less up to half by what a hash of
    the place says, so that what failed together does not come back together."""
    seed = f"{place.topic}/{place.partition}/{place.offset}/{place.attempts}"
    chance = hash_of(seed.encode()) / 2.0**64
    doubled_s = media.retry_backoff_s * 2.0 ** (place.attempts - 1)
    return min(doubled_s, media.retry_backoff_max_s) * (1 - chance / 2)


def retry_of(rejected: Rejected, place: Place, media: Media, limit_bytes: int) -> Failed | None:
    """How the record is tried again, or None: it was tried often enough, or the retry topic would not take it."""
    if place.attempts >= media.retry_attempts:
        return None
    record = rejected.record
    if batch_bytes(record.key, record.value, record.headers) + ADDED_BYTES > limit_bytes:
        return None
    return Failed(rejected, place, wait_s(place, media))


def retries(source: str, partition: int, failed: Sequence[Failed], now_ms: int) -> Emit | None:
    """One effect for all records of a partition batch that are to be tried again, or None. The retry topic of
    `source` has its partitions."""
    if not failed:
        return None
    return Emit(
        retry(source),
        partition,
        keys=[one.rejected.record.key for one in failed],
        values=[one.rejected.record.value for one in failed],
        headers=[_headers(one, now_ms + int(one.wait_s * 1000)) for one in failed],
    )


def _headers(failed: Failed, not_before_ms: int) -> list[Header]:
    place = failed.place
    added: dict[str, str | int] = {
        "topic": place.topic,
        "partition": place.partition,
        "offset": place.offset,
        "timestamp": place.timestamp_ms,
        "attempts": place.attempts,
        "reason": failed.rejected.reason,
        "message": failed.rejected.message[:MESSAGE_CHARS],
        "not-before": not_before_ms,
    }
    own = [(name, value) for name, value in failed.rejected.record.headers if not name.startswith(PREFIX)]
    return [
        *own,
        *((f"{PREFIX}{name}", str(value).encode(errors="replace")) for name, value in added.items()),
    ]
