"""Dead letters: the original key, value and headers untouched, and why, in headers that Kafka Connect's tools read."""

from collections.abc import Sequence

from streams.codecs import Rejected
from streams.effects import Emit, Header
from streams.topics import dead_letter

MESSAGE_CHARS = 300


def dead_letters(topic: str, partition: int, rejected: Sequence[Rejected], worker: str) -> Emit | None:
    """One effect for all rejected records of a partition batch, or None. The dead-letter topic has the input's
    partitions, so that a replay keeps the order of a key."""
    if not rejected:
        return None
    return Emit(
        dead_letter(topic),
        partition,
        keys=[r.record.key for r in rejected],
        values=[r.record.value for r in rejected],
        headers=[_headers(topic, partition, r, worker) for r in rejected],
    )


def _headers(topic: str, partition: int, rejected: Rejected, worker: str) -> list[Header]:
    added: list[Header] = [
        ("__connect.errors.topic", topic.encode()),
        ("__connect.errors.partition", str(partition).encode()),
        ("__connect.errors.offset", str(rejected.record.offset).encode()),
        ("__connect.errors.stage", b"VALUE_CONVERTER" if rejected.reason in _CONVERSION else b"TASK_PUT"),
        ("__connect.errors.exception.class.name", b"streams.errors.Reject"),
        ("__connect.errors.exception.message", rejected.message[:MESSAGE_CHARS].encode()),
        ("dlt.reason", rejected.reason.encode()),
        ("dlt.attempts", b"1"),
        ("dlt.replays", str(replays_of(rejected.record.headers)).encode()),
        ("dlt.worker", worker.encode()),
    ]
    return [*original_headers(rejected.record.headers), *added]


def original_headers(headers: Sequence[Header]) -> list[Header]:
    """Those that the record's producer gave, without what a dead letter or a replay added."""
    return [(name, value) for name, value in headers if not name.startswith(("__connect.errors.", "dlt."))]


def replays_of(headers: Sequence[Header]) -> int:
    """How often a record was replayed; 0 for one that never was, or says nonsense."""
    return number_of(headers, "dlt.replays", 0)


def number_of(headers: Sequence[Header], name: str, default: int) -> int:
    """The number that a header holds. Anybody may have written it."""
    for found, value in headers:
        if found == name and value and value.isdigit() and len(value) < 19:
            return int(value)
    return default


_CONVERSION = frozenset({"undecodable", "schema", "unknown_version", "unknown_kind"})
