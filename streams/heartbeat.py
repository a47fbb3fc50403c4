"""Heartbeats: small records among those of an input topic, which take the same way. Pure.

The reader takes them out of what it hands to the agent, and the batch that they were in travels on, empty or not: once
its effects are durable, the heartbeat has come through. They are known by key and type; nothing else of them is kept.
"""

from collections.abc import Sequence
from operator import attrgetter

import msgspec
from msgspec import Struct

from streams.effects import Header
from streams.events import SOURCE, Milliseconds
from streams.topology.topics import TOPOLOGY
from streams.transport.batch import Record

KEY = b"\x00headrace-heartbeat"  # no name of a reader or an asset begins so
TYPE = b"headrace.heartbeat.v1"
HEADERS: list[Header] = [
    ("ce_type", TYPE),
    ("ce_source", SOURCE.encode()),
    ("ce_specversion", b"1.0"),
    ("content-type", b"application/json"),
]
BEATING = frozenset(topic.name for topic in TOPOLOGY if topic.role == "input")
"""Topics that may hold heartbeats."""


class Heartbeat(Struct, frozen=True):
    """The value: when it was sent."""

    at: Milliseconds


def encoded(at_ms: int) -> bytes:
    """The value of a heartbeat."""
    return msgspec.json.encode(Heartbeat(at_ms))


def is_heartbeat(record: Record) -> bool:
    """Whether a record is one: by its key and its type."""
    return record.key == KEY and ("ce_type", TYPE) in [tuple(header) for header in record.headers]


def taken_out(records: Sequence[Record]) -> tuple[Sequence[Record], tuple[int, ...]]:
    """The records without heartbeats, and when those were sent. Costs about 30 ns a record where there is none."""
    if KEY not in map(_key, records):
        return records, ()
    beats = [record for record in records if is_heartbeat(record)]
    rest = [record for record in records if not is_heartbeat(record)]
    return rest, tuple(at_ms for record in beats if (at_ms := _sent(record)) is not None)


def _sent(record: Record) -> int | None:
    """None for one that says nothing of use: its age is not known, and it is no click either."""
    try:
        return _decode(record.value or b"").at
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


_key = attrgetter("key")
_decode = msgspec.json.Decoder(Heartbeat).decode
