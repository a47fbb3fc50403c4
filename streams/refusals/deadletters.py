"""Dead letters: the original key, value and headers untouched, and why, in headers that Kafka Connect's tools read.

The headers are those of Kafka Connect's DeadLetterQueueReporter, all of them, and a few of Headrace's own (`dlt.`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from streams.effects import Emit, Header, batch_bytes
from streams.refusals.rejected import Place, Rejected
from streams.secrecy.masking import masked
from streams.secrecy.sealing import FORM, SEALED, Seal
from streams.topology.topics import dead_letter

MESSAGE_CHARS = 300
CONNECT = "__connect.errors."
ADDED = (CONNECT, "dlt.", "headrace.retry.")
"""Names of headers that workers add begin so."""

LEFT_OUT = "dlt.left_out"
FIRST_AT, REPLAYED = "dlt.at", "dlt.replayed"
"""Of a letter that was written again when others were removed: when it was first, and that it was replayed then."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A rejected record, where it lay first, and how often it was tried."""

    rejected: Rejected
    place: Place


@dataclass(frozen=True, slots=True)
class Sender:
    """Who writes dead letters, for their headers."""

    group: str
    agent: str  # the class
    worker: str  # name and version
    seal: Seal | None = None  # closes values
    mask: bool = True  # what people may read of errors


@dataclass(frozen=True, slots=True)
class Sent:
    """One effect with all of them, and how many had to leave something out."""

    emit: Emit
    left_out: int


def dead_letters(
    source: str, partition: int, letters: Sequence[Letter], sender: Sender, limit_bytes: int
) -> Sent | None:
    """One effect for all rejected records of a partition batch, or None. The dead-letter topic of `source` has its
    partitions, so that a replay keeps the order of a key.

    A letter that the topic would not take (`limit_bytes`, of a broker batch) goes without its value, and if need be
    without its key and headers; it says how large they were and where the record lies.
    """
    if not letters:
        return None
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    headers: list[list[Header]] = []
    left_out = 0
    for letter in letters:
        given, added = letter.rejected.record.value, _headers(partition, letter, sender)
        if sender.seal is not None and given is not None:
            given, added = sender.seal.close(given), [*added, (SEALED, FORM)]
        key, value, own, added = _fitted(letter, given, added, limit_bytes)
        left_out += value is not given
        keys.append(key)
        values.append(value)
        headers.append([*own, *added])
    return Sent(Emit(dead_letter(source), partition, keys, values, headers), left_out)


def _fitted(
    letter: Letter, value: bytes | None, added: list[Header], limit_bytes: int
) -> tuple[bytes | None, bytes | None, list[Header], list[Header]]:
    """Key, value, the record's own headers and ours, as much of it as the topic takes."""
    record = letter.rejected.record
    own = original_headers(record.headers)
    size = batch_bytes(record.key, value, [*own, *added])
    if size <= limit_bytes:
        return record.key, value, own, added
    place = f"{letter.place.topic}/{letter.place.partition}/{letter.place.offset}"
    said = [*added, (f"{LEFT_OUT}.bytes", str(size).encode()), (f"{LEFT_OUT}.at", place.encode())]
    without_value = [*said, (LEFT_OUT, b"value")]
    if batch_bytes(record.key, None, [*own, *without_value]) <= limit_bytes:
        return record.key, None, own, without_value
    return None, None, [], [*said, (LEFT_OUT, b"value, key, headers")]


def _headers(partition: int, letter: Letter, sender: Sender) -> list[Header]:
    rejected = letter.rejected
    conversion = rejected.reason in _CONVERSION
    masking = masked if sender.mask else str
    message = masking(rejected.message[:MESSAGE_CHARS])
    connect = {
        "topic": letter.place.topic,
        "partition": str(letter.place.partition),
        "offset": str(letter.place.offset),
        "connector.name": sender.group,
        "task.id": str(partition),  # a partition is the unit of work here
        "stage": "VALUE_CONVERTER" if conversion else "TASK_PUT",
        "class.name": "streams.codecs.EventDecoder" if conversion else sender.agent,
        "exception.class.name": rejected.error,
        "exception.message": message,
        "exception.stacktrace": masking(rejected.trace) or f"{rejected.error}: {message}",
    }
    own = {
        "reason": rejected.reason,
        "attempts": str(letter.place.attempts),
        "replays": str(replays_of(rejected.record.headers)),
        "worker": sender.worker,
    }
    return [
        *((f"{CONNECT}{name}", text.encode(errors="replace")) for name, text in connect.items()),
        *((f"dlt.{name}", text.encode(errors="replace")) for name, text in own.items()),
    ]


def original_headers(headers: Sequence[Header]) -> list[Header]:
    """Those that the record's producer gave, without what a dead letter, a retry or a replay added."""
    return [(name, value) for name, value in headers if not name.startswith(ADDED)]


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
