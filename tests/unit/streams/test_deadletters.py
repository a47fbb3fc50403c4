"""Dead letters: the record itself, and behind its headers those of Kafka Connect's DeadLetterQueueReporter."""

import re
import zipfile

import pytest

from bad_records import FakeRecord
from streams.effects import batch_bytes
from streams.errors import Reject
from streams.refusals.deadletters import Letter, Sender, dead_letters
from streams.refusals.rejected import TRACE_BYTES, TRACE_FRAMES, Place, Rejected, rejected_by
from streams.settings import kafka_lib

SENDER = Sender("headrace.clicks", "streams.agents.clicks.ClicksAgent", "headrace/9")
LIMIT = 10_000
CONNECT = {
    "topic", "partition", "offset", "connector.name", "task.id", "stage", "class.name",
    "exception.class.name", "exception.message", "exception.stacktrace",
}  # fmt: skip


def letter(record: FakeRecord, limit_bytes: int = LIMIT, message: str = "no") -> tuple[object, ...]:
    rejected = Rejected(record, "undecodable", message)
    sent = dead_letters(
        "clicks", 3, [Letter(rejected, Place("clicks", 3, record.offset, 0))], SENDER, limit_bytes
    )
    assert sent is not None and sent.emit.headers is not None
    return sent.emit.keys[0], sent.emit.values[0], sent.emit.headers[0], sent.left_out


def test_a_dead_letter_is_the_record_itself_with_reasons_behind_its_headers() -> None:
    record = FakeRecord(7, b"\xff\x00", None, [("a", b"1"), ("a", b"2"), ("null", None)])
    rejected = Rejected(record, "undecodable", "Müll " * 200)
    sent = dead_letters("clicks", 3, [Letter(rejected, Place("clicks", 3, 7, 0, attempts=4))], SENDER, LIMIT)
    assert sent is not None and sent.emit.headers is not None and sent.left_out == 0
    assert (sent.emit.topic, sent.emit.partition) == ("clicks.dlt", 3)
    assert sent.emit.keys == [None] and sent.emit.values == [b"\xff\x00"]
    assert sent.emit.headers[0][:3] == record.headers
    added = dict(sent.emit.headers[0][3:])
    assert added["dlt.reason"] == b"undecodable" and added["dlt.worker"] == b"headrace/9"
    assert added["dlt.attempts"] == b"4"
    assert {name.removeprefix("__connect.errors.") for name in added if "connect" in name} == CONNECT
    assert added["__connect.errors.topic"] == b"clicks"
    assert added["__connect.errors.partition"] == b"3"
    assert added["__connect.errors.offset"] == b"7"
    assert added["__connect.errors.connector.name"] == b"headrace.clicks"
    assert added["__connect.errors.stage"] == b"VALUE_CONVERTER"
    assert len(added["__connect.errors.exception.message"].decode()) <= 300


@pytest.mark.kafka
def test_the_headers_are_those_of_kafka_connect() -> None:
    lib = kafka_lib()
    assert lib is not None
    (jar,) = lib.glob("connect-runtime-*.jar")
    reporter = "org/apache/kafka/connect/runtime/errors/DeadLetterQueueReporter.class"
    names = set(re.findall(rb"__connect\.errors\.([a-z.]+)", zipfile.ZipFile(jar).read(reporter)))
    assert {name.decode() for name in names} == CONNECT


def test_no_rejected_record_is_no_effect() -> None:
    assert dead_letters("clicks", 0, [], SENDER, LIMIT) is None


def test_a_trace_names_the_calls_and_the_cause_and_is_bounded() -> None:
    def deep(n: int) -> None:
        if n:
            deep(n - 1)
        try:
            raise OSError(5, "Input/output error")
        except OSError as error:
            raise Reject("failed", "no " * 5_000) from error

    with pytest.raises(Reject) as raised:
        deep(100)
    found = rejected_by(FakeRecord(1, b""), raised.value, "failed")
    assert found.error == "streams.errors.Reject" and len(found.trace.encode()) <= TRACE_BYTES
    lines = found.trace.split("\n")
    assert lines[0] == f"streams.errors.Reject: {'no ' * 100}"
    assert all(line.startswith(f"\tat {__name__}.deep(line ") for line in lines[1 : TRACE_FRAMES + 1])
    assert lines[TRACE_FRAMES + 1] == "Caused by: OSError: [Errno 5] Input/output error"
    assert len(lines) == TRACE_FRAMES + 3


def test_a_letter_too_large_for_its_topic_goes_without_its_value_and_says_so() -> None:
    record = FakeRecord(7, b"v" * 20_000, b"key", [("own", b"1")])
    key, value, headers, left_out = letter(record)
    added = dict(headers)  # type: ignore[call-overload]
    assert (key, value, left_out) == (b"key", None, 1)
    assert added["own"] == b"1" and added["dlt.left_out"] == b"value"
    assert int(added["dlt.left_out.bytes"]) > 20_000
    assert added["dlt.left_out.at"] == b"clicks/3/7"
    assert added["__connect.errors.offset"] == b"7"


def test_a_letter_with_huge_headers_goes_without_them() -> None:
    record = FakeRecord(7, b"v", b"key", [("own", b"1" * 20_000)])
    key, value, headers, left_out = letter(record)
    added = dict(headers)  # type: ignore[call-overload]
    assert (key, value, left_out) == (None, None, 1)
    assert "own" not in added and added["dlt.left_out"] == b"value, key, headers"
    assert batch_bytes(None, None, headers) < LIMIT  # type: ignore[arg-type]


def test_a_letter_that_just_fits_is_whole() -> None:
    record = FakeRecord(7, b"v" * 5_000, b"key")
    _, _, headers, _ = letter(record)
    size = batch_bytes(record.key, record.value, headers)  # type: ignore[arg-type]
    assert letter(record, size)[3] == 0
    assert letter(record, size - 1)[3] == 1


def test_text_that_no_encoding_takes_is_no_error() -> None:
    _, _, headers, _ = letter(FakeRecord(7, b"v"), message="\udcff")
    assert dict(headers)["__connect.errors.exception.message"] == b"?"  # type: ignore[call-overload]
