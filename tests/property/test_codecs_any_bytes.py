"""Any bytes, any headers: nothing raises, nothing is lost, order stays."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bad_records import NOW_MS, FakeRecord, Headers, click, media
from streams.codecs import MediaDecoder, decode_clicks
from streams.errors import REASONS

FUTURE_MS = 86_400_000

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
header_values = st.none() | st.binary(max_size=20) | st.sampled_from([b"media.click.v1", b"media.click.v2"])
header_names = st.sampled_from(["ce_type", "content-type", "other"])
headers: st.SearchStrategy[Headers] = st.lists(st.tuples(header_names, header_values), max_size=3)
structured = st.just([("content-type", b"application/cloudevents+json")])


@st.composite
def changed_click(draw: st.DrawFn) -> bytes:
    """A click with fields replaced, removed or added, or with bytes cut out or put in."""
    event = json.loads(click(1))
    names = st.sampled_from([*event, "dwell_s", "context", "type", "data"])
    event |= draw(st.dictionaries(names, json_values, max_size=3))
    for name in draw(st.lists(st.sampled_from(list(event)), max_size=2)):
        event.pop(name, None)
    raw = json.dumps(event).encode()
    at = draw(st.integers(0, len(raw)))
    return raw[:at] + draw(st.binary(max_size=3) | st.just(b"")) + raw[at + draw(st.integers(0, 3)) :]


values = (
    st.none() | st.binary(max_size=60) | changed_click() | json_values.map(lambda v: json.dumps(v).encode())
)
anything = st.tuples(values, headers | structured, st.none() | st.binary(max_size=5))


@settings(max_examples=300, deadline=None)
@given(st.lists(anything, max_size=8), st.lists(st.booleans(), max_size=8))
def test_any_bytes_never_raise_and_good_clicks_come_through_in_order(
    strange: list[tuple[bytes | None, Headers, bytes | None]], good_before: list[bool]
) -> None:
    batch: list[FakeRecord] = []
    good: list[int] = []
    for n, (value, extra, key) in enumerate(strange):
        if n < len(good_before) and good_before[n]:
            good.append(len(batch))
            batch.append(FakeRecord(len(batch), click(n, user=f"good{n}")))
        batch.append(FakeRecord(len(batch), value, key, extra))
    columns = decode_clicks(0, batch, FUTURE_MS) if batch else None
    if columns is None:
        return
    offsets = columns.offsets.tolist()
    rejected = [r.record.offset for r in columns.rejected]
    assert sorted(offsets + rejected) == list(range(len(batch)))
    assert offsets == sorted(offsets)
    assert set(good) <= set(offsets)
    assert all(r.reason in REASONS for r in columns.rejected)
    assert (
        len(columns.users) == len(columns.items) == len(columns.kinds) == len(columns.at_ms) == len(offsets)
    )
    for user in columns.users:
        user.encode()  # it becomes a key
    assert ((columns.at_ms > 0) & (columns.at_ms < 1 << 46)).all()


@settings(max_examples=150, deadline=None)
@given(st.lists(anything, max_size=6))
def test_any_bytes_never_raise_in_media(strange: list[tuple[bytes | None, Headers, bytes | None]]) -> None:
    batch = [FakeRecord(n, value, key, extra) for n, (value, extra, key) in enumerate(strange)]
    batch.append(FakeRecord(len(batch), media("a", "text/plain", b"x"), timestamp=NOW_MS))
    events, records, rejected = MediaDecoder(1 << 20)(batch)
    assert len(events) == len(records) and events[-1].asset == "a"
    assert sorted(r.offset for r in [*records, *(r.record for r in rejected)]) == list(range(len(batch)))  # type: ignore[attr-defined]
