"""The oracle of `headrace verify` can fail: each way to spoil a run is found. And its reading of the state's bytes and
sums agrees with a real fold."""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from xxhash import xxh3_64_intdigest

from models.taste.actions import CODES, weights_of
from models.taste.items import ItemIndex, hash_of
from models.taste.neighbours import ItemColumns
from models.taste.transitions import encode, transitions
from models.taste.users import HALF_LIVES_S, UserRows
from streams.settings import load
from streams.verify.oracle import Found, Rules, judge
from streams.verify.plan import Plan, schedule
from streams.verify.replay import replayed
from streams.verify.workload import SOURCE, clicks, comments

START_MS = 1_767_225_600_000
COUNT = 600


@dataclass
class Row:
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]] = field(default_factory=list)


def honest_run(exactly_once: bool = False) -> tuple[Found, Rules]:
    """What a worker without any fault leaves behind."""
    logs: dict[str, list[Row]] = {
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
        )
    }

    def put(topic: str, key: bytes, value: bytes, headers: list[tuple[str, bytes]] | None = None) -> None:
        logs[topic].append(Row(topic, 0, len(logs[topic]), key, value, [SOURCE, *(headers or [])]))

    items = ItemIndex()
    rows = UserRows(items, HALF_LIVES_S, 64)
    columns = ItemColumns(items, sources=1)
    sent_values: dict[str, list[bytes]] = {"clicks": [], "uploads": []}
    for sent in (*clicks(COUNT, 5, START_MS), *comments(30, 5, START_MS)):
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
        because = {"topic": sent.topic, "partition": 0, "offset": offset}
        if sent.topic == "uploads":
            label = {
                "id": f"l-{event['id']}",
                "asset": event["asset"],
                "task": "sentiment",
                "model": {"name": "m"},
                "value": "positive",
                "because": because,
            }
            put("labels", sent.key, json.dumps(label).encode())
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
        made = {"id": f"clicks-0-{offset}", "user": event["user"], "because": because}
        put("recommendations", sent.key, json.dumps(made).encode())
        put("taste-changelog", sent.key, rows.encode(rows.rows_of([event["user"]]))[0])
    ends = {("clicks", 0): len(logs["clicks"]), ("uploads", 0): len(logs["uploads"])}
    rules = Rules(exactly_once, HALF_LIVES_S, items.dim, 64, media=True, source=SOURCE)
    return Found(logs, dict(ends), ends, sent_values), rules


@pytest.mark.parametrize("exactly_once", [False, True])
def test_an_honest_run_has_no_differences(exactly_once: bool) -> None:
    found, rules = honest_run(exactly_once)
    judged = judge(found, rules, replayed(load(), found.records["clicks"]))
    assert judged.differences == []
    assert judged.expected["dead letters of clicks"] > 0  # the load has poison
    assert judged.expected["clicks taken back"] > 5
    assert judged.expected["labelled assets"] + judged.expected["dead letters of uploads"] == 30


def _lose(topic: str, at: int) -> Any:
    return lambda logs: logs[topic].pop(at)


def _spoil(topic: str, at: int, place: int) -> Any:
    def spoil(logs: dict[str, list[Row]]) -> None:
        value = bytearray(logs[topic][at].value or b"")
        value[place] ^= 1
        logs[topic][at].value = bytes(value)

    return spoil


def _last_row_of_the_busiest(logs: dict[str, list[Row]]) -> int:
    keys = [row.key for row in logs["taste-changelog"]]
    busiest = max(set(keys), key=keys.count)
    return len(keys) - 1 - keys[::-1].index(busiest)


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
    keys = [row.key for row in logs["recommendations"]]
    busiest = max(set(keys), key=keys.count)
    logs["recommendations"].append(logs["recommendations"][keys.index(busiest)])


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


def _not_as_sent(logs: dict[str, list[Row]]) -> None:
    logs["clicks"][5].value = logs["clicks"][6].value


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_other_header, "header"),
        (_one_more_impression, "impressions of"),
        (_not_as_sent, "are not those that were sent"),
        (_lose("clicks", -1), "clicks sent"),
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
    clean = replayed(load(), found.records["clicks"])
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
