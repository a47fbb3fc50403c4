"""Record batches as lists: equal to what aiokafka's own consumer makes of the same bytes."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.state.batches import Fetched, next_offset, records

GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
READ_COMMITTED = 1
Row = tuple[bytes | None, bytes | None]
CONTROL_BIT, COMMIT, ABORT = 0x20, 1, 0


def batch(base: int, rows: Sequence[Row], compression: int = 0, producer: int | None = None) -> bytes:
    builder = DefaultRecordBatchBuilder(
        2, compression, int(producer is not None), -1 if producer is None else producer, 0, 0, 1 << 24
    )
    for n, (key, value) in enumerate(rows):
        builder.append(n, 1_767_225_600_000, key, value, [("header", b"h")] if n % 2 else [])
    return based(bytes(builder.build()), base)


def based(data: bytes, base: int) -> bytes:
    """The base offset is outside the checksum."""
    return base.to_bytes(8, "big") + data[8:]


def marker(base: int, producer: int, kind: int) -> bytes:
    """The end of a transaction: a control batch, its attribute set before the checksum is made."""
    key = (0).to_bytes(2, "big") + kind.to_bytes(2, "big")
    plain = bytearray(batch(base, [(key, b"\0" * 6)], producer=producer))
    plain[22] |= CONTROL_BIT
    plain[17:21] = crc32c(bytes(plain[21:])).to_bytes(4, "big")
    return bytes(plain)


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def legacy(magic: int, base: int, rows: Sequence[Row], compression: int = 0) -> bytes:
    builder = LegacyRecordBatchBuilder(magic, compression, 1 << 24)
    for n, (key, value) in enumerate(rows):
        assert builder.append(base + n, 1_767_225_600_000, key, value)
    built = bytes(builder.build())
    # a broker gives a compressed batch of magic 1 the offset of its last record
    return based(built, base + len(rows) - 1) if compression else built


def found_in(data: bytes, start: int, aborted: Sequence[tuple[int, int]] = ()) -> list[Row]:
    fetched = Fetched(start, next_offset(data, start), 1 << 30, data, tuple(aborted))
    rows: list[Row] = []
    for keys, values, _ in records(fetched):
        rows += zip(keys, values, strict=True)
    return rows


def oracle(data: bytes, start: int, aborted: Sequence[tuple[int, int]] = ()) -> tuple[list[Row], int]:
    theirs = PartitionRecords(
        TopicPartition("t", 0), MemoryRecords(data), list(aborted), start, None, None, True, READ_COMMITTED
    )
    rows: list[Row] = [(record.key or b"", record.value) for record in theirs]
    return rows, theirs.next_fetch_offset


def sent_for(data: bytes, start: int) -> bytes:
    """What a broker answers to a fetch: from the batch on that holds the offset."""
    while data and next_offset(data[: 12 + int.from_bytes(data[8:12], "big")], 0) <= start:
        data = data[12 + int.from_bytes(data[8:12], "big") :]
    return data


def some_rows(n: int, seed: int = 0) -> list[Row]:
    draw = random.Random(seed)
    values = (None, b"", draw.randbytes(300), draw.randbytes(90))
    return [(draw.choice((None, b"", b"key%d" % i)), draw.choice(values)) for i in range(n)]


@pytest.mark.parametrize("compression", [0, GZIP, SNAPPY, LZ4, ZSTD])
def test_rows_offsets_and_tombstones_are_those_of_the_consumer(compression: int) -> None:
    log = b"".join(batch(10 * n, some_rows(10, n), compression) for n in range(300))
    for start in (0, 7, 10, 2995, 2999):
        data = sent_for(log, start)
        assert (data == log) == (start < 10)
        rows, following = oracle(data, start)
        assert found_in(data, start) == rows
        assert next_offset(data, start) == following
    assert len(found_in(log, 0)) == 3000


@pytest.mark.parametrize(("magic", "compression"), [(0, 0), (1, 0), (1, GZIP)])
def test_batches_of_older_brokers_are_read_too(magic: int, compression: int) -> None:
    data = legacy(magic, 5, some_rows(20), compression)
    rows, following = oracle(data, 5)
    assert len(rows) == 20 and found_in(data, 5) == rows and next_offset(data, 5) == following


def test_a_batch_cut_off_by_the_fetch_is_left_for_the_next_one() -> None:
    first, second = batch(0, some_rows(5)), batch(5, some_rows(5))
    for cut in (1, 12, 30, 61, len(second) - 1):
        assert next_offset(first + second[:cut], 0) == 5
        assert found_in(first + second[:cut], 0) == oracle(first, 0)[0]
        assert next_offset(second[:cut], 5) == 5 and found_in(second[:cut], 5) == []
    assert next_offset(b"", 3) == 3 and found_in(b"", 3) == []


def test_a_flipped_byte_is_refused() -> None:
    good = batch(0, some_rows(5))
    for at in range(21, len(good)):
        data = bytearray(good)
        data[at] ^= 1
        with pytest.raises(CorruptRecordException):
            found_in(bytes(data), 0)


@dataclass
class Log:
    """A log under construction, as the broker keeps it, and which transactions were aborted."""

    data: bytes
    end: int
    open_since: dict[int, int]
    aborted: list[tuple[int, int]]


def log_of(steps: Sequence[tuple[str, int]]) -> Log:
    log = Log(b"", 0, {}, [])
    for what, producer in steps:
        if what == "plain":
            rows = some_rows(3, log.end)
            log.data += batch(log.end, rows, GZIP if producer % 2 else 0)
            log.end += len(rows)
        elif what == "write":
            rows = some_rows(2, log.end)
            log.data += batch(log.end, rows, producer=producer)
            log.open_since.setdefault(producer, log.end)
            log.end += len(rows)
        elif producer in log.open_since:
            began = log.open_since.pop(producer)
            if what == "abort":
                log.aborted.append((producer, began))
            log.data += marker(log.end, producer, ABORT if what == "abort" else COMMIT)
            log.end += 1
        if what == "compact":
            log.end += 4  # records that are gone: a gap between batches
    return log


STEP: Any = st.tuples(
    st.sampled_from(["plain", "write", "write", "commit", "abort", "compact"]), st.integers(0, 2)
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, max_size=25))
def test_any_interleaving_of_transactions_reads_as_the_consumer_does(steps: list[tuple[str, int]]) -> None:
    log = log_of(steps)
    for start in {0, log.end // 2}:
        data = sent_for(log.data, start)
        rows, following = oracle(data, start, log.aborted)
        assert found_in(data, start, log.aborted) == rows
        assert next_offset(data, start) == following


def test_what_was_aborted_is_not_read() -> None:
    log = log_of([("write", 1), ("write", 2), ("abort", 1), ("write", 1), ("commit", 1), ("commit", 2)])
    assert found_in(log.data, 0, log.aborted) == [
        *map(as_read, some_rows(2, 2)),
        *map(as_read, some_rows(2, 5)),
    ]


def as_read(row: Row) -> Row:
    return row[0] or b"", row[1]
