"""Bytes to columns: every bad record is set aside with its reason; the good ones come through in order."""

import numpy as np
import pytest

from bad_records import NOW_MS, STRUCTURED, Bad, FakeRecord, bad_clicks, click, structured
from models.taste.actions import CODES
from streams.codecs import decode_clicks, decode_poll
from streams.columns import ClickColumns
from streams.errors import REASONS
from streams.events import CLICK, KINDS

FUTURE_MS = 86_400_000
BAD = bad_clicks()


@pytest.mark.parametrize("bad", BAD, ids=[bad.name for bad in BAD])
def test_a_bad_click_is_set_aside_and_its_batch_goes_on(bad: Bad) -> None:
    batch = [
        FakeRecord(10, click(1)),
        FakeRecord(11, bad.value, bad.key, bad.headers),
        FakeRecord(15, click(2)),
    ]
    columns = decode_clicks(3, batch, FUTURE_MS)
    assert columns.offsets.tolist() == [10, 15]
    assert columns.users == ["u1", "u2"] and columns.items == ["i1", "i2"]
    assert len(columns) == len(columns.kinds) == len(columns.at_ms) == len(columns.dwell_s) == 2
    (rejected,) = columns.rejected
    assert rejected.record is batch[1]
    assert rejected.reason in bad.reasons, rejected.message
    assert rejected.reason in REASONS and rejected.message


def test_all_bad_records_in_one_batch() -> None:
    batch = []
    for n, bad in enumerate(BAD):
        batch += [FakeRecord(2 * n, click(n)), FakeRecord(2 * n + 1, bad.value, bad.key, bad.headers)]
    columns = decode_clicks(0, batch, FUTURE_MS)
    assert columns.offsets.tolist() == [2 * n for n in range(len(BAD))]
    assert sorted(r.record.offset for r in columns.rejected) == [2 * n + 1 for n in range(len(BAD))]


def test_good_clicks_become_columns() -> None:
    batch = [
        FakeRecord(n, click(n, kind=kind, **({"dwell_s": 2.5} if kind == "dwell" else {})))
        for n, kind in enumerate(KINDS)
    ]
    columns = decode_clicks(0, batch, FUTURE_MS)
    assert [KINDS[code] for code in columns.kinds.tolist()] == list(KINDS)
    assert columns.at_ms.tolist() == [NOW_MS] * len(KINDS)
    assert np.flatnonzero(~np.isnan(columns.dwell_s)).tolist() == [KINDS.index("dwell")]
    assert columns.rejected == []


POLLS: dict[str, list[tuple[int, list[FakeRecord]]]] = {
    "good": [
        (0, [FakeRecord(4, click(1, author="ann")), FakeRecord(6, click(2))]),
        (3, [FakeRecord(9, click(3, dwell_s=2.0, kind="dwell"))]),
        (5, [FakeRecord(0, click(4)), FakeRecord(1, click(5, wishes={"exclude": ["i1"]}, author="bob"))]),
    ],
    "named by a header": [
        (1, [FakeRecord(0, click(1), headers=[("ce_id", b"one")])]),
        (2, [FakeRecord(0, click(1)), FakeRecord(1, click(1), headers=[("x", b""), ("ce_id", b"two")])]),
    ],
    "without clicks": [(1, []), (2, [FakeRecord(3, click(1))])],
    "nothing": [],
    "one bad": [(1, [FakeRecord(0, click(1)), FakeRecord(1, b"")]), (2, [FakeRecord(7, click(2))])],
    "too far ahead of its own record": [
        (1, [FakeRecord(0, click(1, at=NOW_MS + FUTURE_MS))]),
        (2, [FakeRecord(0, click(2, at=NOW_MS + FUTURE_MS), timestamp=NOW_MS - 1)]),
    ],
}


@pytest.mark.parametrize("poll", POLLS.values(), ids=POLLS.keys())
def test_a_poll_is_decoded_as_its_partitions_are(poll: list[tuple[int, list[FakeRecord]]]) -> None:
    found = decode_poll(poll, FUTURE_MS)
    assert [_plain(one) for one in found] == [_plain(decode_clicks(p, some, FUTURE_MS)) for p, some in poll]


def _plain(columns: ClickColumns) -> list[object]:
    """Everything of it, to compare."""
    arrays = (columns.kinds, columns.at_ms, columns.offsets, columns.ids)
    numbers = [(array.dtype, array.tolist()) for array in (*arrays, np.nan_to_num(columns.dwell_s, nan=-1.0))]
    rejected = [(one.record, one.reason, one.message) for one in columns.rejected]
    rest = [columns.users, columns.items, columns.wishes, columns.authors, columns.orders, rejected]
    return [columns.partition, *rest, list(columns.records), *numbers]


def test_an_event_is_the_one_that_its_ce_id_names_or_else_its_id() -> None:
    same = [("ce_type", CLICK.encode()), ("ce_id", b"one")]
    batch = [
        FakeRecord(0, click(1), headers=same),
        FakeRecord(1, click(2), headers=same),
        FakeRecord(2, click(1), headers=[("ce_id", b"two")]),
        FakeRecord(3, click(1)),
        FakeRecord(4, click(1), headers=[("ce_id", None)]),
        FakeRecord(5, click(1), headers=[("ce_id", b"")]),
    ]
    one, again, two, *bare = decode_clicks(0, batch, FUTURE_MS).ids.tolist()
    assert one == again and len({one, two, *bare}) == 3 and len(set(bare)) == 1


@pytest.mark.parametrize(
    "headers",
    [
        [("ce_type", CLICK.encode())],
        [("content-type", None), ("trace", None)],
        [("content-type", b"application/json")],
    ],
    ids=["binary mode", "null headers", "plain JSON"],
)
def test_headers_that_do_not_matter(headers: list[tuple[str, bytes | None]]) -> None:
    assert decode_clicks(0, [FakeRecord(0, click(1), headers=headers)], FUTURE_MS).users == ["u1"]


def test_cloudevents_in_structured_mode_among_plain_ones() -> None:
    import json

    inside = structured(json.loads(click(2)))
    batch = [FakeRecord(0, click(1)), FakeRecord(1, inside, headers=STRUCTURED), FakeRecord(2, click(3))]
    columns = decode_clicks(0, batch, FUTURE_MS)
    assert columns.users == ["u1", "u2", "u3"] and not columns.rejected


def test_how_far_ahead_a_click_may_lie_is_measured_from_its_own_record() -> None:
    late = FakeRecord(1, click(2, at=NOW_MS + 5000), timestamp=NOW_MS)
    in_time = FakeRecord(2, click(3, at=NOW_MS + 5000), timestamp=NOW_MS + 4500)
    columns = decode_clicks(0, [FakeRecord(0, click(1)), late, in_time], future_ms=1000)
    assert columns.offsets.tolist() == [0, 2]
    assert [r.reason for r in columns.rejected] == ["bad_time"]


def test_every_kind_on_the_wire_has_a_code_and_a_weight() -> None:
    assert set(KINDS) == set(CODES)
