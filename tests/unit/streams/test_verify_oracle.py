"""The oracle of `headrace verify` can fail: each way to spoil a run is found. And its reading of the state's bytes and
sums agrees with a real fold."""

import copy
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from xxhash import xxh3_64_intdigest

from models.taste.actions import CODES, weights_of
from models.taste.index import ItemIndex, hash_of
from models.taste.items.neighbours import ItemColumns
from models.taste.readers.rows import HALF_LIVES_S
from models.taste.readers.transitions import encode, transitions
from models.taste.readers.users import UserRows
from streams.settings import load
from streams.verify.judgement import Found, Rules
from streams.verify.oracle import judge
from streams.verify.plan import Plan, schedule
from streams.verify.readers import read_clicks
from streams.verify.replay import replayed
from streams.verify.states import hash_of_reader
from streams.verify.workload import SOURCE, Sent, clicks, comments, orders

START_MS = 1_767_225_600_000
COUNT = 600
BLOCK = 60  # records, in which clicks of a reader who was forgotten are dropped


@dataclass
class Row:
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]] = field(default_factory=list)
    timestamp: int = 0


Logs = dict[str, list[Row]]
Register = dict[str, tuple[int, int, int, bool]]  # reader -> fence, forgot, until, opted out


def obey(sent: Sent, logs: Logs, rows: UserRows, register: Register, put: Callable[..., None]) -> None:
    """As the workers do: into the log of clicks, then state, list and register, then the receipt."""
    order = json.loads(sent.value)
    at, user = len(logs["clicks"]), order["user"]
    until = START_MS + 20 * (at + BLOCK)
    home = json.dumps({**order, "home": 0, "until": until}).encode()
    put("clicks", sent.key, home, [("ce_type", b"headrace.privacy-order.v1")])
    had_state = rows.fence_of(user) >= 0
    _, forgot, until_before, opted_out = register.get(user, (-1, -1, -1, False))
    if order["kind"] == "forget":
        rows.forget(user)
        logs["clicks.dlt"][:] = [one for one in logs["clicks.dlt"] if one.key != sent.key]
        put("taste-changelog", sent.key, None)
        register[user] = (at, at, until, opted_out)
    elif order["kind"] == "opt_out":
        register[user] = (at, forgot, -1 if had_state else until_before, True)
    else:
        register[user] = (at, at if forgot >= 0 and not had_state else forgot, -1, False)
    if order["kind"] != "opt_in":
        put("recommendations", sent.key, None)
    fence, forgot, until, opted_out = register[user]
    row = struct.pack("<BIqqqqB", 0xF0, 0, fence, forgot, until, START_MS, opted_out)
    put("taste-changelog", hash_of_reader(user), row)
    receipt = {"id": f"r{at}", "request": order["id"], "kind": order["kind"], "had_state": had_state}
    put("privacy-receipts", order["id"].encode(), json.dumps(receipt).encode())


def honest_run(exactly_once: bool = False) -> tuple[Found, Rules]:
    """What a worker without any fault leaves behind; a copy, to be spoilt."""
    found, rules = copy.deepcopy(made())
    return found, replace(rules, exactly_once=exactly_once)


@cache
def made() -> tuple[Found, Rules]:
    logs: Logs = {
        name: []
        for name in (
            "clicks",
            "clicks.dlt",
            "uploads",
            "uploads.dlt",
            "taste-changelog",
            "recommendations",
            "transitions",
            "item-table",
            "labels",
            "privacy",
            "privacy.dlt",
            "privacy-receipts",
        )
    }
    register: Register = {}

    def put(
        topic: str, key: bytes, value: bytes | None, headers: list[tuple[str, bytes]] | None = None
    ) -> None:
        at = len(logs[topic])
        logs[topic].append(Row(topic, 0, at, key, value, [SOURCE, *(headers or [])], START_MS + 20 * at))

    items = ItemIndex()
    rows = UserRows(items, HALF_LIVES_S, 64)
    columns = ItemColumns(items, sources=1)
    sent_values: dict[str, list[bytes]] = {"clicks": [], "uploads": [], "privacy": []}

    asked = iter(orders(40, 5, START_MS))
    sent_clicks = clicks(COUNT, 5, START_MS)
    between = [
        one for n, click in enumerate(sent_clicks) for one in ([click] if n % 15 else [click, next(asked)])
    ]
    for sent in (*between, *comments(30, 5, START_MS)):
        put(sent.topic, sent.key, sent.value)
        sent_values[sent.topic].append(sent.value)
        offset = len(logs[sent.topic]) - 1
        try:
            event: dict[str, Any] = json.loads(sent.value)
            event["at"] + 0
        except (ValueError, TypeError):
            place = [("__connect.errors.partition", b"0"), ("__connect.errors.offset", str(offset).encode())]
            put(f"{sent.topic}.dlt", sent.key, sent.value, place)
            continue
        if sent.topic == "privacy":
            obey(sent, logs, rows, register, put)
            continue
        because = {"topic": sent.topic, "partition": 0, "offset": offset}
        if sent.topic == "uploads":
            put("labels", sent.key, json.dumps(label_of(event, because)).encode())
            continue
        user = event["user"]
        if rows.fence_of(user) < 0 and START_MS + 20 * offset < register.get(user, (0, 0, -1, False))[2]:
            continue
        kinds = np.array([CODES[event["kind"]]], np.int8)
        weights = weights_of(kinds, np.array([event.get("dwell_s", np.nan)]))
        at_ms, offsets = np.array([event["at"]], np.int64), np.array([offset], np.int64)
        index = items.lookup([event["item"]])
        ids = np.array([xxh3_64_intdigest(event["id"].encode())], np.uint64)
        authors = {0: hash_of(event["author"])} if event.get("author") else {}
        folded = rows.fold([event["user"]], index, kinds, weights, at_ms, offsets, 10, ids, authors)
        if folded.duplicates:
            continue
        told = transitions(folded, index, kinds, weights, at_ms, offsets, 0)
        names = [items.names[item] or "" for item in told.items.tolist()]
        first = len(logs["transitions"])
        for name, value in zip(names, encode(told, items), strict=True):
            put("transitions", name.encode(), value)
        if names:
            columns.fold(told, np.arange(first, first + len(names)))
        for name in names:
            put("item-table", name.encode(), columns.encode(columns.rows_of([name]))[0])
        reason = "popularity" if user in register and register[user][3] else "history"
        items_made = [{"item": "i1", "reasons": [{"type": reason}]}]
        made = {"id": f"clicks-0-{offset}", "user": user, "because": because, "items": items_made}
        put("recommendations", sent.key, json.dumps(made).encode())
        put("taste-changelog", sent.key, rows.encode(rows.rows_of([event["user"]]))[0])
    put("clicks", b"\x00headrace-heartbeat", b'{"at": 1}', [("ce_type", b"headrace.heartbeat.v1")])
    ends = {(topic, 0): len(logs[topic]) for topic in ("clicks", "uploads", "privacy")}
    ends["clicks", 0] -= 1  # the heartbeat is not waited for
    rules = Rules(False, HALF_LIVES_S, items.dim, 64, media=True, source=SOURCE)
    return Found(logs, dict(ends), ends, sent_values), rules


def label_of(event: dict[str, Any], because: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"l-{event['id']}",
        "asset": event["asset"],
        "task": "sentiment",
        "model": {"name": "m"},
        "value": "positive",
        "because": because,
    }


def clean_replay(found: Found) -> dict[tuple[int, str], bytes]:
    log = found.records["clicks"]
    return replayed(load(), log, read_clicks(log).alive)


@pytest.mark.parametrize("exactly_once", [False, True])
def test_an_honest_run_has_no_differences(exactly_once: bool) -> None:
    found, rules = honest_run(exactly_once)
    judged = judge(found, rules, clean_replay(found))
    assert judged.differences == []
    assert judged.expected["dead letters of clicks"] > 0  # the load has poison
    assert judged.expected["clicks taken back"] > 5
    assert judged.expected["clicks of readers who were forgotten"] > 5
    assert judged.expected["orders of readers with a receipt"] > 30
    assert judged.expected["readers in the privacy register"] > 10
    assert judged.expected["labelled assets"] + judged.expected["dead letters of uploads"] == 30


def _lose(topic: str, at: int) -> Any:
    return lambda logs: logs[topic].pop(at)


def _spoil(topic: str, at: int, place: int) -> Any:
    def spoil(logs: dict[str, list[Row]]) -> None:
        value = bytearray(logs[topic][at].value or b"")
        value[place] ^= 1
        logs[topic][at].value = bytes(value)

    return spoil


def _busiest(logs: dict[str, list[Row]], topic: str) -> list[int]:
    """Places of the records of the reader with most of them, who was never forgotten nor opted out."""
    places: dict[bytes | None, list[int]] = {}
    for n, row in enumerate(logs[topic]):
        if (row.key or b"")[:1] != b"\xff":
            places.setdefault(row.key, []).append(n)
    whole = [found for found in places.values() if all(logs[topic][n].value for n in found)]
    return max(whole, key=len)


def _last_row_of_the_busiest(logs: dict[str, list[Row]]) -> int:
    return _busiest(logs, "taste-changelog")[-1]


def _older_state(logs: dict[str, list[Row]]) -> None:
    logs["taste-changelog"].pop(_last_row_of_the_busiest(logs))


def _counted_twice(logs: dict[str, list[Row]]) -> None:
    """A net sum at a day of half-life that is 1 % off."""
    at = _last_row_of_the_busiest(logs)
    value = bytearray(logs["taste-changelog"][at].value or b"")
    net = 21 + 8 * 4 + 2 + 4 * (2 * 66 + 64)
    (sum_,) = np.frombuffer(value[net : net + 4], "<f4")
    value[net : net + 4] = np.float32(sum_ + 0.05 * max(1, abs(sum_))).tobytes()
    logs["taste-changelog"][at].value = bytes(value)


def _late_list(logs: dict[str, list[Row]]) -> None:
    logs["recommendations"].append(logs["recommendations"][_busiest(logs, "recommendations")[0]])


def _other_content(logs: dict[str, list[Row]]) -> None:
    row = logs["labels"][3]
    value = (row.value or b"").replace(b"positive", b"negative")
    logs["labels"].append(Row("labels", 0, len(logs["labels"]), row.key, value))


def _other_header(logs: dict[str, list[Row]]) -> None:
    logs["clicks.dlt"][0].headers.remove(SOURCE)


def _one_more_impression(logs: dict[str, list[Row]]) -> None:
    row = logs["item-table"][-1]
    row.value = (row.value or b"")[:43] + np.float64(99).tobytes() + (row.value or b"")[51:]


def _not_taken_back(logs: dict[str, list[Row]]) -> None:
    """A transition with a weight below 0 that never came."""
    weights = [np.frombuffer((row.value or b"")[20:24], "<f4")[0] for row in logs["transitions"]]
    logs["transitions"].pop(next(n for n, weight in enumerate(weights) if weight < 0))


def _gone(logs: dict[str, list[Row]], topic: str) -> bytes:
    """A reader whose newest record there has no value, and who had one before."""
    newest = {row.key: row.value for row in logs[topic]}
    return next(row.key for row in logs[topic] if row.key and row.value and newest[row.key] is None)


def _brought_back(logs: dict[str, list[Row]]) -> None:
    """A row of a reader who was forgotten, written after the tombstone."""
    key = _gone(logs, "taste-changelog")
    logs["taste-changelog"].append(next(row for row in logs["taste-changelog"] if row.key == key))


def _list_not_taken_away(logs: dict[str, list[Row]]) -> None:
    key = _gone(logs, "recommendations")
    kept = [row for row in logs["recommendations"] if row.key != key or row.value is not None]
    logs["recommendations"][:] = kept


def _letter_of_who_was_forgotten(logs: dict[str, list[Row]]) -> None:
    forget = next(row for row in reversed(logs["clicks"]) if b'"forget"' in (row.value or b""))
    letter = logs["clicks.dlt"][0]
    offset = int(dict(letter.headers)["__connect.errors.offset"])
    assert offset < forget.offset
    logs["clicks"][offset].key = letter.key = forget.key


def _personal(logs: dict[str, list[Row]]) -> None:
    row = next(row for row in logs["recommendations"] if b"popularity" in (row.value or b""))
    row.value = (row.value or b"").replace(b"popularity", b"history")


def _register_forgets(logs: dict[str, list[Row]]) -> None:
    at = max(n for n, row in enumerate(logs["taste-changelog"]) if (row.key or b"")[:1] == b"\xff")
    logs["taste-changelog"].pop(at)


def _not_as_sent(logs: dict[str, list[Row]]) -> None:
    logs["clicks"][5].value = logs["clicks"][6].value


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_other_header, "header"),
        (_brought_back, "rows left of readers who were forgotten"),
        (_list_not_taken_away, "readers with lists"),
        (_letter_of_who_was_forgotten, "of readers forgotten since"),
        (_personal, "personal lists"),
        (_register_forgets, "register"),
        (_lose("privacy-receipts", 3), "receipt"),
        (_lose("privacy", 3), "privacy sent"),
        (_one_more_impression, "impressions of"),
        (_not_as_sent, "are not those that were sent"),
        (_lose("clicks", -2), "clicks sent"),
        (_lose("uploads", -1), "uploads sent"),
        (_older_state, "fence"),
        (_counted_twice, "net sum"),
        (_spoil("taste-changelog", -1, -1), "ring"),
        (_spoil("taste-changelog", -1, -8), "ring"),  # a weight
        (_not_taken_back, "transitions"),
        (_late_list, "last list"),
        (_lose("recommendations", -1), "list"),
        (_lose("transitions", 7), "transitions"),
        (_lose("clicks.dlt", 0), "dead letters of clicks"),
        (_spoil("clicks.dlt", 0, 0), "is not what was sent"),
        (_lose("labels", 4), "labelled assets"),
        (_other_content, "two contents"),
    ],
)
def test_each_way_to_spoil_a_run_is_found(spoil: Any, said: str) -> None:
    found, rules = honest_run()
    spoil(found.records)
    differences = judge(found, rules).differences
    assert any(said in difference for difference in differences), differences


def test_one_bit_beside_a_clean_replay_is_a_difference() -> None:
    found, rules = honest_run()
    clean = clean_replay(found)
    _spoil("taste-changelog", -1, 21 + 8 * 4 + 2)(found.records)  # the last bit of a vector's first component
    differences = judge(found, rules, clean).differences
    assert differences == ["states other than a clean replay's: expected 0, found 1"]


@pytest.mark.parametrize("topic", ["recommendations", "transitions", "labels", "clicks.dlt"])
def test_what_appears_twice_is_a_difference_for_exactly_once_alone(topic: str) -> None:
    for exactly_once in (False, True):
        found, rules = honest_run(exactly_once)
        last = found.records[topic][-1]
        found.records[topic].append(last)  # type: ignore[attr-defined]
        assert bool(judge(found, rules).differences) == exactly_once


def test_an_offset_that_is_not_the_end_is_a_difference() -> None:
    found, rules = honest_run()
    found.committed["clicks", 0] -= 1  # type: ignore[index]
    assert any("committed" in difference for difference in judge(found, rules).differences)


def test_the_same_seed_gives_the_same_load_and_order_of_faults() -> None:
    assert clicks(50, 3, START_MS) == clicks(50, 3, START_MS) != clicks(50, 4, START_MS)
    plan = Plan(kills=20, seed=9)
    assert schedule(plan) == schedule(plan) != schedule(Plan(kills=20, seed=10))
    assert schedule(plan).count("kill") == 20 and "broker" not in schedule(plan)  # in memory: never stopped
    on_kafka = schedule(Plan(broker="kafka", kills=20))
    assert on_kafka.count("broker") == 4 == on_kafka.count("network")
    assert on_kafka.count("partition") == 1 and on_kafka[-1] == "partition"  # it ends all workers
