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
        ("dlt.replays", b"0"),
        ("dlt.worker", worker.encode()),
    ]
    return [*rejected.record.headers, *added]


_CONVERSION = frozenset({"undecodable", "schema", "unknown_version", "unknown_kind"})
