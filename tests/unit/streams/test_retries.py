"""When and with what a record is tried again; partitions nap until their head is due. Pure."""

from aiokafka import TopicPartition

from bad_records import NOW_MS, FakeRecord
from streams.refusals.rejected import Place, Rejected
from streams.refusals.retries import ADDED_BYTES, left_ms, place_of, retries, retry_of, wait_s
from streams.sections.media import Media
from streams.transport.naps import SHORTEST_MS, Naps

MEDIA = Media(retry_attempts=3, retry_backoff_s=1.0, retry_backoff_max_s=5.0)
TP = TopicPartition("audio.retry", 2)
OWN: list[tuple[str, bytes | None]] = [("ce_type", b"media.asset.v1"), ("dlt.replays", b"2"), ("null", None)]


def failed(record: FakeRecord, place: Place) -> FakeRecord:
    """The record as it lies on the retry topic."""
    rejected = Rejected(record, "payload_unavailable", "there is no such file")
    one = retry_of(rejected, place, MEDIA, 1 << 20)
    assert one is not None
    emit = retries("audio", 2, [one], NOW_MS)
    assert emit is not None and emit.headers is not None
    assert (emit.topic, emit.partition, emit.keys, emit.values) == ("audio.retry", 2, [b"k"], [b"v"])
    return FakeRecord(40, b"v", b"k", emit.headers[0], NOW_MS)  # type: ignore[arg-type]


def test_place_and_attempts_come_back_whatever_happened_in_between() -> None:
    first = Place("audio", 2, 17, NOW_MS - 900)
    again = failed(FakeRecord(17, b"v", b"k", OWN), first)
    assert again.headers[: len(OWN)] == OWN
    assert place_of("audio", "audio.retry", 2, again) == Place("audio", 2, 17, NOW_MS - 900, 2)
    third = failed(again, place_of("audio", "audio.retry", 2, again))
    names = [name for name, _ in third.headers]
    assert len(names) == len(set(names))  # nothing piles up
    place = place_of("audio", "audio.retry", 2, third)
    assert place == Place("audio", 2, 17, NOW_MS - 900, 3)
    assert retry_of(Rejected(third, "failed", ""), place, MEDIA, 1 << 20) is None  # often enough


def test_a_record_that_no_worker_put_there_stands_for_itself() -> None:
    for headers in (
        [],
        [("headrace.retry.topic", b"clicks"), ("headrace.retry.offset", b"3")],
        [("headrace.retry.topic", b"audio"), ("headrace.retry.offset", b"-3")],
        [("headrace.retry.topic", None), ("headrace.retry.offset", b"x")],
    ):
        record = FakeRecord(5, b"v", b"k", headers)  # type: ignore[arg-type]
        assert place_of("audio", "audio.retry", 2, record) == Place("audio.retry", 2, 5, NOW_MS)
        assert left_ms(record, NOW_MS, 60.0) <= 0


def test_waits_double_up_to_the_longest_and_are_spread() -> None:
    def waits(attempts: int) -> list[float]:
        return [wait_s(Place("audio", 0, n, 0, attempts), MEDIA) for n in range(500)]

    for attempts, longest in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 5.0), (99, 5.0)):
        found = waits(attempts)
        assert longest / 2 <= min(found) < 0.55 * longest and 0.95 * longest < max(found) <= longest
        assert found == waits(attempts)  # no chance of its own


def test_a_hostile_header_or_a_wrong_clock_cannot_make_a_partition_wait_for_ever() -> None:
    def left(not_before: int, now_ms: int) -> int:
        headers: list[tuple[str, bytes | None]] = [("headrace.retry.not-before", str(not_before).encode())]
        return left_ms(FakeRecord(5, b"v", b"k", headers, 10**17), now_ms, 60.0)

    assert left(NOW_MS + 60_000, NOW_MS) == 60_000
    assert left(NOW_MS + 60_000, NOW_MS + 60_001) <= 0
    assert left(10**17, NOW_MS) == 0
    assert left(NOW_MS + 60_000, NOW_MS - 3_600_000) == 0  # the clock was put back


def test_what_the_retry_topic_would_not_take_is_not_tried_again() -> None:
    record = FakeRecord(5, b"v" * 5_000)
    rejected, place = Rejected(record, "failed", ""), Place("audio", 0, 5, 0)
    assert retry_of(rejected, place, MEDIA, 5_000) is None
    assert retry_of(rejected, place, MEDIA, 5_500 + ADDED_BYTES) is not None


def test_the_headers_take_no_more_than_is_reckoned() -> None:
    record = FakeRecord(2**60, b"v", b"k")
    one = retry_of(
        Rejected(record, "payload_unavailable", "€" * 900),
        Place("uploads", 9999, 2**60, 2**60),
        MEDIA,
        1 << 20,
    )
    assert one is not None
    emit = retries("uploads", 2, [one], 2**60)
    assert emit is not None and emit.headers is not None
    assert sum(len(name) + len(value) + 10 for name, value in emit.headers[0]) < ADDED_BYTES


def test_a_partition_naps_at_the_first_record_that_is_not_due() -> None:
    naps = Naps(lambda record, now_ms: record.timestamp - now_ms)
    records = [FakeRecord(n, b"", timestamp=NOW_MS + due) for n, due in enumerate((-5, 0, 900, -7))]
    assert naps.due(records, NOW_MS) == 2
    until = naps.begin(TP, records[2], NOW_MS)
    assert until == NOW_MS + 900 and naps.naps(TP, until) and len(naps) == 1
    later = naps.begin(TP, FakeRecord(3, b"", timestamp=NOW_MS + 1), NOW_MS)
    assert later == NOW_MS + SHORTEST_MS and not naps.naps(TP, until)  # the old nap wakes nobody
    naps.end(TP)
    assert not naps
    assert Naps(None).due(records, 0) == 4
