"""What an agent asks for. Agents decide and return these; `transport.commit` performs them.

Columnar, because the clicks path writes thousands a batch: an effect holds many records of one partition.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

Header = tuple[str, bytes]


@dataclass(slots=True)
class Emit:
    """Records for one partition of one topic, in order. `headers`, when given, has one list a record. `at_ms` is their
    time for the broker, the worker's own where None: into topics that keep their writers' times (inputs) go times that
    a broker has accepted before, since it refuses a clock that is far ahead."""

    topic: str
    partition: int
    keys: Sequence[bytes | None]
    values: Sequence[bytes | memoryview | None]
    headers: Sequence[list[Header]] | None = None
    at_ms: int | None = None


@dataclass(slots=True)
class Effects:
    """What one group of batches asks for, in order of durability.

    `outputs` (lists, labels, transitions, dead letters) are confirmed by the broker before `changelog` is
    sent; `changelog` is confirmed before the batches' offsets may be committed.
    """

    outputs: list[Emit] = field(default_factory=list)
    changelog: list[Emit] = field(default_factory=list)


BATCH_HEADER_BYTES = 61
LENGTH_BYTES = 5  # the most that the length of a key, a value or a header takes


def batch_bytes(key: bytes | None, value: bytes | memoryview | None, headers: Sequence[Header] | None) -> int:
    """At most so large is a broker batch that holds this record alone; brokers compare that with their limit."""
    held = sum(2 * LENGTH_BYTES + len(name.encode()) + len(content or b"") for name, content in headers or ())
    return BATCH_HEADER_BYTES + 6 * LENGTH_BYTES + len(key or b"") + len(value or b"") + held
