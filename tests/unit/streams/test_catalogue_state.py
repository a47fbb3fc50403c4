"""Catalogue records become columns; bad ones are counted by reason, named once, and change nothing."""

import json
import logging
from typing import Any

import pytest

from bad_records import NOW_MS, STRUCTURED, FakeRecord, structured
from models.taste.index import ItemIndex
from models.taste.items.catalogue import Entry
from streams.events import ITEM
from streams.observe.catalogue import Metrics
from streams.state.catalogue import CatalogueState


def entry(item: str, **more: Any) -> bytes:
    return json.dumps({"id": "x", "item": item, "at": NOW_MS, **more}).encode()


def state() -> tuple[CatalogueState, Metrics]:
    metrics = Metrics("test")
    return CatalogueState(ItemIndex(), metrics), metrics


def described(one: CatalogueState, name: str) -> Entry | None:
    rows = one.rows
    (at,) = rows.items.lookup([name]).tolist()
    if at >= len(rows.known) or not rows.known[at]:
        return None
    names = {n: author for author, n in rows._authors.items()}
    topics = [topic for topic, bit in rows._topics.items() if int(rows.topics[at]) >> bit & 1]
    return Entry(
        names.get(int(rows.author[at])), int(rows.published_ms[at]), topics, bool(rows.available[at])
    )


def test_the_newest_record_of_an_item_stands_and_a_null_one_removes_it() -> None:
    one, metrics = state()
    one.apply(
        [
            FakeRecord(0, entry("a", author="ada", topics=["x", "y"], published_at=NOW_MS - 5), b"a"),
            FakeRecord(1, entry("b"), b"b"),
            FakeRecord(2, entry("c"), b"c"),
            FakeRecord(3, entry("a", author="bob", available=False), b"a"),
            FakeRecord(4, None, b"b"),
            FakeRecord(5, entry("d", topics=["y"]), None),
        ]
    )
    assert described(one, "a") == Entry("bob", NOW_MS, [], False)
    assert described(one, "b") is None and not one.rows.available[one.rows.items.lookup(["b"])[0]]
    assert described(one, "c") == Entry(None, NOW_MS, [], True)
    assert described(one, "d") == Entry(None, NOW_MS, ["y"], True)
    assert metrics.catalogue_items._value.get() == 3
    assert metrics.catalogue_records._value.get() == 6
    one.apply([FakeRecord(6, entry("b", published_at=7), b"b")])
    assert described(one, "b") == Entry(None, 7, [], True)


def test_records_of_both_modes_of_cloudevents_are_read() -> None:
    one, _ = state()
    headers: Any = [("ce_type", ITEM.encode())]
    one.apply(
        [
            FakeRecord(0, entry("a"), b"a", headers),
            FakeRecord(1, structured(json.loads(entry("b")), ITEM), b"b", STRUCTURED),
        ]
    )
    assert described(one, "a") and described(one, "b")


@pytest.mark.parametrize(
    ("value", "key", "headers", "reason"),
    [
        (b"\xff", b"a", [], "undecodable"),
        (b"", b"a", [], "undecodable"),
        (b"[1]", b"a", [], "schema"),
        (b'{"id": "x", "at": 1}', b"a", [], "schema"),
        (entry("a", author="x" * 257), b"a", [], "schema"),
        (entry("a", topics="one"), b"a", [], "schema"),
        (entry("other"), b"a", [], "schema"),
        (entry("a"), b"\xff", [], "schema"),
        (entry("a", published_at=-1), b"a", [], "schema"),
        (entry("a", text="x" * (1 << 20)), b"a", [], "too_large"),
        (entry("a"), b"a", [("ce_type", b"media.item.v9")], "unknown_version"),
        (entry("a"), b"a", [("ce_type", b"media.click.v1")], "schema"),
        (None, None, [], "schema"),
        (None, b"\xff", [], "schema"),
    ],
)
def test_a_bad_record_is_counted_and_named_and_what_was_known_stands(
    value: bytes | None, key: bytes | None, headers: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    one, metrics = state()
    one.apply([FakeRecord(0, entry("a", author="ada"), b"a")])
    with caplog.at_level(logging.WARNING):
        one.apply([FakeRecord(7, value, key, headers), FakeRecord(8, entry("b"), b"b")])
    assert described(one, "a") == Entry("ada", NOW_MS, [], True)
    assert described(one, "b") is not None
    assert metrics.catalogue_bad.labels(reason)._value.get() == 1
    (line,) = [record.getMessage() for record in caplog.records]
    assert "offset 7" in line and reason in line


def test_authors_and_topics_beyond_the_bounds_are_unknown_and_counted() -> None:
    one, metrics = state()
    one.apply([FakeRecord(0, entry("a", topics=[f"t{n}" for n in range(70)]), b"a")])
    assert int(one.rows.topics[1]).bit_count() == 64
    assert metrics.catalogue_beyond._value.get() == 6
