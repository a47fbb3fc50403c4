"""What must be true after a run, from the logs of the inputs alone. Shares no code with the worker.

The state's bytes are read here a second time, from the description of the layout: version u1, settings u4, fence i8,
newest i8, refs i8[H], filled u2, bank f4[H, D + 2] with the net and the gross sum last, the last ids (u1, u8[16]), how
many items (u2) and authors (u1) are hidden, then the ring's entries of item hash u8, kind u1 (its high bit: the weight
is below 0), weight u2, time u4 and u2, then hashes u8 of what is hidden. An `undo` takes back the reader's last event
of that item in the ring, and shows again what nothing in the ring hides any more, and the author that it names. Sums
are compared with float64 sums over all of a reader's events.
"""

import json
import math
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Protocol

import numpy as np

KINDS = ["impression", "skip", "click", "dwell", "complete", "like"]
KINDS += ["save", "share", "follow", "hide", "report", "undo"]
WEIGHTS = dict(zip(KINDS, (-0.05, -0.2, 1, 0, 2, 2, 3, 4, 4, -4, -10, 0), strict=True))
POSITIVE = {"click", "dwell", "complete", "like", "save", "share", "follow"}
HIDING = {"hide", "report"}
MOST_ITEMS, MOST_AUTHORS = 256, 64
WINDOW = 10  # items before, of which a transition tells
ITEM_HALF_LIFE_MS = 30 * 86_400_000
ITEM_CLOSE = 1e-6  # of the sum of all that was added and taken back; one click of ten thousand is 1e-4
CLOSE = 1e-3  # of float32 sums of thousands of events, with weights in steps of 1/256


class Record(Protocol):
    """What a plain consumer gives."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


@dataclass(slots=True)
class Found:
    """All records after a run, by topic without prefix, and what the groups have committed."""

    records: Mapping[str, Sequence[Record]]
    committed: Mapping[tuple[str, int], int]  # (input topic, partition)
    ends: Mapping[tuple[str, int], int]
    sent: Mapping[str, Sequence[bytes]]  # values by input topic, in the order in which they were sent


@dataclass(frozen=True, slots=True)
class Rules:
    """What the oracle is told of the settings."""

    exactly_once: bool
    half_lives_s: tuple[float, ...]
    dim: int
    ring: int
    media: bool
    source: tuple[str, bytes]  # a header of every record that was sent


@dataclass(slots=True)
class Judgement:
    """Counts of what was expected and found, and every difference in words."""

    expected: dict[str, int] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)


Event = dict[str, Any]
Told = list[tuple[tuple[int, int], Event, int]]
"""Of each event that the item agent is told: what caused that (partition, offset), the event, 1 or -1 (taken back)."""


@dataclass(slots=True)
class Left:
    """What is left of a reader's events once each undo has taken one back."""

    counting: list[Event] = field(default_factory=list)
    ring: list[Event] = field(default_factory=list)  # oldest first
    taken: list[tuple[int, Event]] = field(default_factory=list)  # offset of the undo, what it took
    parted: list[tuple[int, str]] = field(default_factory=list)  # and an item that this had led to
    items: list[str] = field(default_factory=list)  # hidden, oldest first
    authors: list[str] = field(default_factory=list)


def left_of(events: Sequence[tuple[int, Event]], ring: int) -> Left:
    """The reader's events with their offsets, in order; `ring` is how many it holds."""
    left = Left()
    for offset, event in events:
        item, author = event["item"], event.get("author")
        if event["kind"] != "undo":
            left.counting.append(event)
            if event["kind"] != "impression":
                left.ring = [*left.ring, event][-ring:]
            if event["kind"] in HIDING:
                left.items = _with(left.items, item, MOST_ITEMS)
                left.authors = _with(left.authors, author, MOST_AUTHORS) if author else left.authors
            continue
        found = [one for one in left.ring if one["item"] == item]
        if found:
            left.taken.append((offset, found[-1]))
            left.parted += [(offset, one) for one in _led_to(left.ring, found[-1])]
            left.ring = [one for one in left.ring if one is not found[-1]]
            left.counting = [one for one in left.counting if one is not found[-1]]
        hides = any(one["kind"] in HIDING for one in left.ring if one["item"] == item)
        if not hides and (not found or found[-1]["kind"] in HIDING):
            left.items = [one for one in left.items if one != item]
        left.authors = [one for one in left.authors if one != author]
    return left


def _led_to(ring: Sequence[Event], event: Event) -> set[str]:
    """Items that were come to within WINDOW events after an event that speaks for its own."""
    place = next(n for n, one in enumerate(ring) if one is event)
    later = ring[place + 1 : place + 1 + WINDOW] if event["kind"] in POSITIVE else []
    return {one["item"] for one in later if _speaks(one)} - {event["item"]}


def _with(held: list[str], one: str, most: int) -> list[str]:
    return held if one in held else [*held, one][-most:]


def judge(found: Found, rules: Rules, replayed: Mapping[tuple[int, str], bytes] | None = None) -> Judgement:
    """Compare a run with a plain reading of its inputs, and its states with those of a replay, where given, byte for
    byte."""
    result = Judgement()
    good, poison = _read(found.records["clicks"], {"id", "user", "item", "kind", "at"})
    by_user: dict[tuple[int, str], list[tuple[int, Event]]] = defaultdict(list)
    twice = _take_out_duplicates(good)
    for (partition, offset), event in sorted(good.items()):
        by_user[partition, event["user"]].append((offset, event))
    lefts = {key: left_of(events, rules.ring) for key, events in by_user.items()}
    told: Told = [(cause, event, 1) for cause, event in good.items()]
    told += [((key[0], at), event, -1) for key, left in lefts.items() for at, event in left.taken]
    told = [one for one in told if _speaks(one[1]) or one[1]["kind"] == "impression"]
    rows = _standing(found.records["taste-changelog"])
    _check_state(result, rows, by_user, lefts, rules)
    if replayed is not None:
        other = sum(rows.get(key) != state for key, state in replayed.items())
        _note(result, "states other than a clean replay's", 0, other)
    _check_lists(result, found.records["recommendations"], by_user, good, rules)
    transitions = Counter(cause for cause, _, _ in told)
    transitions += Counter((key[0], at) for key, left in lefts.items() for at, _ in left.parted)
    _check_transitions(result, found.records["transitions"], transitions, rules)
    _check_items(result, found.records["item-table"], told)
    _check_poison(result, "clicks", found.records["clicks"], found.records["clicks.dlt"], poison, rules)
    _check_inputs(result, found, "clicks")
    _note(result, "clicks that count", len(found.sent["clicks"]), len(good) + len(twice) + len(poison))
    result.expected["clicks taken back"] = result.found["clicks taken back"] = sum(
        len(left.taken) for left in lefts.values()
    )
    result.expected["clicks sent twice"] = result.found["clicks sent twice"] = len(twice)
    if rules.media:
        _check_inputs(result, found, "uploads")
        uploads, bad = _read(found.records["uploads"], {"id", "asset", "at", "media_type"})
        _check_labels(result, found.records["labels"], uploads, rules)
        _check_poison(result, "uploads", found.records["uploads"], found.records["uploads.dlt"], bad, rules)
    for key, end in sorted(found.ends.items()):
        if end and found.committed.get(key) != end:
            result.differences.append(
                f"committed {found.committed.get(key)} of {key[0]}[{key[1]}], it ends at {end}"
            )
    return result


def _note(result: Judgement, what: str, expected: int, found: int) -> None:
    result.expected[what], result.found[what] = expected, found
    if expected != found:
        result.differences.append(f"{what}: expected {expected}, found {found}")


def _read(
    log: Sequence[Record], fields: set[str]
) -> tuple[dict[tuple[int, int], Event], set[tuple[int, int]]]:
    """(partition, offset) -> event of good records; and of those that are no event."""
    good: dict[tuple[int, int], Event] = {}
    poison: set[tuple[int, int]] = set()
    for record in log:
        try:
            event = json.loads(record.value or b"")
            good_one = isinstance(event, dict) and fields <= event.keys() and isinstance(event["at"], int)
        except ValueError:
            good_one = False
        if good_one:
            good[record.partition, record.offset] = event
        else:
            poison.add((record.partition, record.offset))
    return good, poison


def _take_out_duplicates(good: dict[tuple[int, int], Event]) -> list[Event]:
    """Events whose id is among the last 16 that count of their reader."""
    last: dict[tuple[int, str], deque[str]] = defaultdict(lambda: deque(maxlen=16))
    found = []
    for place in sorted(good):
        event = good[place]
        seen = last[place[0], event["user"]]
        if event["id"] in seen:
            found.append(good.pop(place))
        else:
            seen.append(event["id"])
    return found


def _check_inputs(result: Judgement, found: Found, topic: str) -> None:
    """What was sent, and acknowledged, is what lies in the log."""
    log = Counter(record.value or b"" for record in found.records[topic])
    _note(result, f"{topic} sent", len(found.sent[topic]), log.total())
    if log != Counter(found.sent[topic]):
        result.differences.append(f"the records of {topic} are not those that were sent")


def _standing(changelog: Sequence[Record]) -> dict[tuple[int, str], bytes]:
    """(partition, reader) -> the row with the highest fence, of equal ones the last."""
    rows: dict[tuple[int, str], bytes] = {}
    for record in changelog:
        key = record.partition, (record.key or b"").decode()
        if record.value and (key not in rows or _fence(record.value) >= _fence(rows[key])):
            rows[key] = record.value
    return rows


def _check_state(
    result: Judgement,
    rows: Mapping[tuple[int, str], bytes],
    by_user: Mapping[tuple[int, str], list[tuple[int, Event]]],
    lefts: Mapping[tuple[int, str], Left],
    rules: Rules,
) -> None:
    _note(result, "readers", len(by_user), len(rows))
    for key, events in by_user.items():
        if key in rows:
            wrong = _state_differs(
                rows[key], [event for _, event in events], events[-1][0], lefts[key], rules
            )
            if wrong:
                result.differences.append(f"state of {key[1]}: {wrong}")


def _fence(row: bytes) -> int:
    return int.from_bytes(row[5:13], "little", signed=True)


def _state_differs(row: bytes, events: list[Event], fence: int, left: Left, rules: Rules) -> str | None:
    h, width = len(rules.half_lives_s), rules.dim + 2
    head = np.dtype(
        [("version", "u1"), ("settings", "<u4"), ("fence", "<i8"), ("newest", "<i8"), ("refs", "<i8", (h,)),
         ("filled", "<u2"), ("bank", "<f4", (h, width)), ("ids", "u1"), ("recent", "<u8", (16,)),
         ("hidden", "<u2"), ("authors", "u1")]
    )  # fmt: skip
    entry = np.dtype([("hash", "<u8"), ("kind", "i1"), ("size", "<u2"), ("low", "<u4"), ("high", "<u2")])
    found = np.frombuffer(row[: head.itemsize], head)[0]
    if int(found["fence"]) != fence:
        return f"fence {found['fence']}, the last click is at {fence}"
    stop = head.itemsize + entry.itemsize * int(found["filled"])
    ring = np.frombuffer(row[head.itemsize : stop], entry)
    wanted = [(_hash(e["item"]), _kind(e), abs(_steps(e)), e["at"]) for e in left.ring]
    held = [
        (int(e["hash"]), int(e["kind"]), int(e["size"]), int(e["low"]) | int(e["high"]) << 32) for e in ring
    ]
    if held != wanted:
        return "the ring does not hold the last events in their order"
    hashes, items = np.frombuffer(row[stop:], "<u8").tolist(), int(found["hidden"])
    if hashes[:items] != [_hash(item) for item in left.items]:
        return "it does not hide the items that the reader hid"
    if (
        hashes[items:] != [_hash(author) for author in left.authors]
        or int(found["authors"]) != len(hashes) - items
    ):
        return "it does not hide the authors that the reader hid"
    for place, half_life_s in enumerate(rules.half_lives_s):
        ref = int(found["refs"][place])

        def scaled(
            some: Sequence[Event], at: int = ref, half_life_ms: float = half_life_s * 1000
        ) -> list[float]:
            return [
                _steps(e) / 256 * 2 ** max(-1000.0, min(1000.0, e["at"] / half_life_ms - at)) for e in some
            ]

        everything = sum(map(abs, scaled(events)))  # what was taken back leaves rounding
        counting = scaled(left.counting)
        for name, got, sum_ in (
            ("net", found["bank"][place][-2], math.fsum(counting)),
            ("gross", found["bank"][place][-1], sum(map(abs, counting))),
        ):
            if abs(float(got) - sum_) > CLOSE * max(everything, 1e-6):
                return f"{name} sum at {half_life_s:g} s is {got}, must be {sum_}"
    return None


def _hash(item: str) -> int:
    return int.from_bytes(blake2b(item.encode(), digest_size=8).digest(), "little")


def _kind(event: Event) -> int:
    return KINDS.index(event["kind"])


def _steps(event: Event) -> int:
    """The weight in steps of 1/256."""
    return round(_weight(event) * 256)


def _speaks(event: Event) -> bool:
    """Whether the event speaks for its item."""
    return event["kind"] in POSITIVE and _steps(event) > 0


def _weight(event: Event) -> float:
    if event["kind"] == "dwell":
        return min(2.0, math.log1p(event.get("dwell_s", 0.0) / 10))
    return float(WEIGHTS[event["kind"]])


def _check_lists(
    result: Judgement,
    log: Sequence[Record],
    by_user: Mapping[tuple[int, str], list[tuple[int, Event]]],
    good: Mapping[tuple[int, int], Event],
    rules: Rules,
) -> None:
    last: dict[tuple[int, str], int] = {}
    often: Counter[str] = Counter()
    for record in log:
        made = json.loads(record.value or b"")
        cause = made["because"]["partition"], made["because"]["offset"]
        often[made["id"]] += 1
        if good.get(cause, {}).get("user") != made["user"]:
            result.differences.append(f"list {made['id']} was caused by no click of {made['user']}")
        last[record.partition, made["user"]] = made["because"]["offset"]
    _note(result, "readers with lists", len(by_user), len(last))
    for key, events in by_user.items():
        if key in last and last[key] != events[-1][0]:
            result.differences.append(
                f"last list of {key[1]} is of {last[key]}, the last click is at {events[-1][0]}"
            )
    if rules.exactly_once:
        _note(result, "lists seen more than once", 0, sum(count > 1 for count in often.values()))


def _check_transitions(
    result: Judgement, log: Sequence[Record], wanted: Mapping[tuple[int, int], int], rules: Rules
) -> None:
    """Every click that speaks for its item, every impression, and every undo of such a click told the item agent; an
    undo also each item that the click had led to. `wanted`: how many transitions each is to make."""
    head = np.dtype([("version", "u1"), ("kind", "i1"), ("source", "<u2"), ("offset", "<i8"), ("at", "<i8")])
    told: Counter[tuple[int, int]] = Counter()
    for record in log:
        found = np.frombuffer((record.value or b"")[: head.itemsize], head)[0]
        told[int(found["source"]), int(found["offset"])] += 1
    reached = sum(min(told[cause], count) for cause, count in wanted.items())
    _note(result, "transitions", sum(wanted.values()), reached)
    strangers = len(told.keys() - wanted.keys())
    if strangers:
        result.differences.append(f"{strangers} transitions of clicks that make none")
    if rules.exactly_once:
        more = sum(told[cause] > count for cause, count in wanted.items())
        _note(result, "transitions seen more than once", 0, more)


def _check_items(result: Judgement, log: Sequence[Record], told: Told) -> None:
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
    _note(result, "items", len(by_item), len(rows))
    for name, events in by_item.items():
        if name not in rows:
            continue
        for what, shown in (("popularity", False), ("impressions", True)):
            parts = [
                sign
                * (1 if shown else _steps(event) / 256)
                * 2 ** (event["at"] / ITEM_HALF_LIFE_MS - int(rows[name]["ref"]))
                for event, sign in events
                if (event["kind"] == "impression") == shown
            ]
            got, wanted = float(rows[name][what]), sum(parts)
            if abs(got - wanted) > ITEM_CLOSE * max(sum(map(abs, parts)), 1e-9):
                result.differences.append(f"{what} of {name} is {got}, must be {wanted}")


def _check_poison(
    result: Judgement,
    topic: str,
    log: Sequence[Record],
    dead: Sequence[Record],
    poison: set[tuple[int, int]],
    rules: Rules,
) -> None:
    given = {(r.partition, r.offset): r for r in log}
    often: Counter[tuple[int, int]] = Counter()
    for record in dead:
        headers = dict(record.headers)
        place = (
            int(headers["__connect.errors.partition"]),
            int(headers["__connect.errors.offset"]),
        )
        often[place] += 1
        origin = given.get(place)
        if origin is None or (origin.key, origin.value) != (record.key, record.value):
            result.differences.append(f"dead letter of {topic}{place} is not what was sent")
        if rules.source not in record.headers:
            result.differences.append(f"dead letter of {topic}{place} has lost its producer's header")
    _note(result, f"dead letters of {topic}", len(poison), len(often))
    if poison != often.keys():
        result.differences.append(f"dead letters of {topic} are not those of the poison")
    if rules.exactly_once:
        _note(result, f"dead letters of {topic} seen more than once", 0, sum(c > 1 for c in often.values()))


def _check_labels(
    result: Judgement, log: Sequence[Record], uploads: Mapping[tuple[int, int], Event], rules: Rules
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
            result.differences.append(f"label {label['id']} of {label['asset']} has two contents")
    wanted = {event["asset"] for event in uploads.values()}
    _note(result, "labelled assets", len(wanted), len(assets))
    _note(result, "assets with two labels of a task", 0, sum(len(ids) > 1 for ids in assets.values()))
    if wanted != assets.keys():
        result.differences.append("the labelled assets are not those that were sent")
    if rules.exactly_once:
        _note(result, "labels seen more than once", 0, sum(count > 1 for count in often.values()))
