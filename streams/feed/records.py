"""Events as records of a topic: key, JSON, CloudEvents headers, and the partition that every Kafka client picks."""

from datetime import datetime, timezone
from functools import lru_cache
from typing import NamedTuple

import msgspec
from aiokafka.partitioner import murmur2

from streams.effects import Header
from streams.events import CLICK, ITEM, MEDIA, PRIVACY, SOURCE, Click, Item, Media, Privacy
from streams.topology.topics import AUDIO, CLICKS, ITEMS, UPLOADS
from streams.topology.topics import PRIVACY as PRIVACY_TOPIC

Event = Click | Media | Item | Privacy


class Outgoing(NamedTuple):
    """One record on its way. `play_ms` is when it belongs, on the recording's own clock."""

    topic: str
    key: bytes
    value: bytes
    headers: list[Header]
    play_ms: int


_encode = msgspec.json.Encoder().encode
_CE_TYPES: dict[type, str] = {Click: CLICK, Media: MEDIA, Item: ITEM, Privacy: PRIVACY}
_FIXED: dict[type, list[Header]] = {
    struct: [("ce_specversion", b"1.0"), ("ce_type", name.encode()), ("content-type", b"application/json")]
    for struct, name in _CE_TYPES.items()
}


def outgoing(
    event: Event, *, source: str = SOURCE, topic: str | None = None, play_ms: int | None = None
) -> Outgoing:
    """The record of an event: keyed by user, asset or item, for its own topic unless another is named."""
    headers: list[Header] = [
        *_FIXED[type(event)],
        ("ce_id", event.id.encode()),
        ("ce_source", source.encode()),
        ("ce_time", rfc3339(event.at).encode()),
    ]
    return Outgoing(
        topic or topic_of(event),
        key_of(event).encode(),
        _encode(event),
        headers,
        event.at if play_ms is None else play_ms,
    )


def key_of(event: Event) -> str:
    """Who or what the event is about."""
    if isinstance(event, Click | Privacy):
        return event.user
    return event.asset if isinstance(event, Media) else event.item


def topic_of(event: Event) -> str:
    """Where the event belongs: recordings to `audio`, pictures and texts to `uploads`."""
    if isinstance(event, Click):
        return CLICKS
    if isinstance(event, Item):
        return ITEMS
    if isinstance(event, Privacy):
        return PRIVACY_TOPIC
    return AUDIO if event.media_type.startswith(("audio/", "video/")) else UPLOADS


def rfc3339(at_ms: int) -> str:
    """Milliseconds since 1970 as `2014-04-07T10:51:09.277Z`."""
    second, rest = divmod(at_ms, 1000)
    try:
        return f"{datetime.fromtimestamp(second, timezone.utc).isoformat()[:19]}.{rest:03d}Z"
    except (ValueError, OverflowError, OSError):  # beyond the year 9999: the worker will refuse it by name
        return "9999-12-31T23:59:59.999Z"


@lru_cache(500_000)
def _hash(key: bytes) -> int:
    # aiokafka's is pure Python, about 10 µs; readers come back, so remember theirs.
    return int(murmur2(key)) & 0x7FFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that Kafka's default partitioner gives the key."""
    return _hash(key) % partitions
