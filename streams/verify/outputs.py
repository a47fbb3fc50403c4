"""What must have been published after a run: lists, transitions, items, labels, dead letters, receipts. Shares no code
with the worker."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from streams.verify.judgement import Event, Judgement, Place, Record, Rules
from streams.verify.readers import Log
from streams.verify.weights import steps_of

ITEM_HALF_LIFE_MS = 30 * 86_400_000
ITEM_CLOSE = 1e-6  # of the sum of all that was added and taken back; one click of ten thousand is 1e-4
WRITTEN_AGAIN = "dlt.at"  # a header of letters that lay among those of a reader who was forgotten
PERSONAL = {"after", "history", "taste", "sequence"}  # reasons that come from what a reader did
Told = list[tuple[Place, Event, int]]
"""Of each event that the item agent is told: what caused that, the event, 1 or -1 (taken back)."""


def check_lists(result: Judgement, lists: Sequence[Record], log: Log, rules: Rules) -> None:
    """Every list has its click; a reader's last one is of the last click, or is taken away by an order; who wanted no
    profile was listed nothing personal."""
    last: dict[tuple[int, str], int | None] = {}
    often: Counter[str] = Counter()
    personal = 0
    for record in lists:
        key = record.partition, (record.key or b"").decode()
        if record.value is None:
            last[key] = None
            continue
        made = json.loads(record.value)
        cause = made["because"]["partition"], made["because"]["offset"]
        often[made["id"]] += 1
        if log.good.get(cause, {}).get("user") != made["user"]:
            result.differ(f"list {made['id']} was caused by no click of {made['user']}")
        if cause in log.anonymous:
            personal += any(
                why["type"] in PERSONAL for item in made.get("items", ()) for why in item["reasons"]
            )
        last[key] = made["because"]["offset"]
    listed = {key: story.listed for key, story in log.stories.items() if story.listed is not None}
    result.note("readers with lists", len(listed), sum(offset is not None for offset in last.values()))
    result.note("personal lists of readers who wanted no profile", 0, personal)
    for key, offset in listed.items():
        if key in last and last[key] != offset:
            result.differ(f"last list of {key[1]} is of {last[key]}, the last click is at {offset}")
    if rules.exactly_once:
        result.note("lists seen more than once", 0, sum(count > 1 for count in often.values()))


def check_transitions(
    result: Judgement,
    log: Sequence[Record],
    must: Mapping[Place, int],
    may: Mapping[Place, int],
    rules: Rules,
) -> None:
    """Every click that speaks for its item, every impression, and every undo of such a click told the item agent; an
    undo also each item that the click had led to, where the worker knew its name by then. `must`, `may`: how many
    transitions each makes at least and at most."""
    head = np.dtype([("version", "u1"), ("kind", "i1"), ("source", "<u2"), ("offset", "<i8"), ("at", "<i8")])
    told: Counter[Place] = Counter()
    for record in log:
        found = np.frombuffer((record.value or b"")[: head.itemsize], head)[0]
        told[int(found["source"]), int(found["offset"])] += 1
    reached = sum(min(told[cause], count) for cause, count in must.items())
    result.note("transitions", sum(must.values()), reached)
    strangers = len(told.keys() - may.keys())
    if strangers:
        result.differ(f"{strangers} transitions of clicks that make none")
    if rules.exactly_once:
        more = sum(told[cause] > count for cause, count in may.items())
        result.note("transitions seen more than once", 0, more)


def check_items(result: Judgement, log: Sequence[Record], told: Told) -> None:
    """Popularity and impressions of each item: decayed sums over all readers' events, each counted once, without those
    taken back."""
    head = np.dtype(
        [("version", "u1"), ("sources", "<u2"), ("fence", "<i8"), ("ref", "<i8"), ("newest", "<i8"),
         ("popularity", "<f8"), ("total", "<f8"), ("impressions", "<f8")]
    )  # fmt: skip
    rows: dict[str, Any] = {}
    for record in log:
        row = np.frombuffer((record.value or b"")[: head.itemsize], head)[0]
        name = (record.key or b"").decode()
        if name not in rows or row["fence"] >= rows[name]["fence"]:
            rows[name] = row
    by_item: dict[str, list[tuple[Event, int]]] = defaultdict(list)
    for _, event, sign in told:
        by_item[event["item"]].append((event, sign))
    result.note("items", len(by_item), len(rows))
    if strangers := sorted(rows.keys() - by_item.keys()):
        result.differ(f"rows of items of which no click told: {', '.join(strangers[:5])}")
    for name, events in by_item.items():
        if name not in rows:
            continue
        for what, shown in (("popularity", False), ("impressions", True)):
            parts = [
                sign
                * (1 if shown else steps_of(event) / 256)
                * 2 ** (event["at"] / ITEM_HALF_LIFE_MS - int(rows[name]["ref"]))
                for event, sign in events
                if (event["kind"] == "impression") == shown
            ]
            got, wanted = float(rows[name][what]), sum(parts)
            if abs(got - wanted) > ITEM_CLOSE * max(sum(map(abs, parts)), 1e-9):
                result.differ(f"{what} of {name} is {got}, must be {wanted}")


def check_poison(
    result: Judgement,
    topic: str,
    log: Sequence[Record],
    dead: Sequence[Record],
    poison: Mapping[Place, str],
    rules: Rules,
    forgotten: Mapping[str, int],
) -> None:
    """Each bad record is a dead letter, as it was. Those of readers who were `forgotten` (and at which offset, -1 where
    it is not known): gone, where they lay before it and the broker removes any; perhaps there, where they came later.
    """
    given = {(r.partition, r.offset): r for r in log}
    often: Counter[Place] = Counter()
    first: Counter[Place] = (
        Counter()
    )  # without those written again, since a removal that is interrupted may do so twice
    for record in dead:
        headers = dict(record.headers)
        place = (
            int(headers["__connect.errors.partition"]),
            int(headers["__connect.errors.offset"]),
        )
        often[place] += 1
        first[place] += WRITTEN_AGAIN not in headers
        origin = given.get(place)
        if origin is None or (origin.key, origin.value) != (record.key, record.value):
            result.differ(f"dead letter of {topic}{place} is not what was sent")
        if rules.source not in record.headers:
            result.differ(f"dead letter of {topic}{place} has lost its producer's header")
    wanted = {place for place, key in poison.items() if key not in forgotten}
    gone = (
        {place for place, key in poison.items() if place[1] < forgotten.get(key, -1)}
        if rules.removes
        else set()
    )
    found = {place for place in often if poison.get(place) not in forgotten}
    result.note(f"dead letters of {topic}", len(wanted), len(found))
    if wanted != found:
        result.differ(f"dead letters of {topic} are not those of the poison")
    if gone:
        result.note(f"dead letters of {topic} of readers forgotten since", 0, len(gone & often.keys()))
    if rules.exactly_once:
        result.note(f"dead letters of {topic} seen more than once", 0, sum(c > 1 for c in first.values()))


def check_receipts(result: Judgement, receipts: Sequence[Record], asked: Mapping[str, str], log: Log) -> None:
    """Every order (id -> kind) has its receipt, which says whether there was a state."""
    had_state: dict[str, set[bool]] = defaultdict(set)
    for story in log.stories.values():
        for request, states in story.had_state.items():
            had_state[request] |= states
    found: dict[str, str] = {}
    for record in receipts:
        told = json.loads(record.value or b"")
        found[told["request"]] = told["kind"]
        if told["had_state"] not in had_state[told["request"]]:
            result.differ(f"the receipt of {told['request']} is wrong about the state")
    result.note("orders of readers with a receipt", len(asked), len(found))
    if dict(asked) != found:
        result.differ("the receipts are not those of the orders")


def check_labels(
    result: Judgement, log: Sequence[Record], uploads: Mapping[Place, Event], rules: Rules
) -> None:
    content: dict[str, tuple[str, str, str, str]] = {}
    often: Counter[str] = Counter()
    assets: dict[str, set[str]] = defaultdict(set)
    for record in log:
        label = json.loads(record.value or b"")
        often[label["id"]] += 1
        assets[label["asset"]].add(label["id"])
        said = label["asset"], label["task"], json.dumps(label["model"]), json.dumps(label["value"])
        if content.setdefault(label["id"], said) != said:
            result.differ(f"label {label['id']} of {label['asset']} has two contents")
    wanted = {event["asset"] for event in uploads.values()}
    result.note("labelled assets", len(wanted), len(assets))
    result.note("assets with two labels of a task", 0, sum(len(ids) > 1 for ids in assets.values()))
    if wanted != assets.keys():
        result.differ("the labelled assets are not those that were sent")
    if rules.exactly_once:
        result.note("labels seen more than once", 0, sum(count > 1 for count in often.values()))
