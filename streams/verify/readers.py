"""What a plain reading of the log of clicks says of each reader: which clicks count, what is forgotten, who wants no
profile. Shares no code with the worker.

Between the clicks stand orders (header `ce_type`), which concern the partition that they name as home. `forget` ends a
life: nothing of before counts in the reader's state, and until the order's time no click begins another. An `undo`
takes back the reader's last event of that item in the ring of this life, and shows again what nothing in the ring hides
any more, and the author that it names; a click whose id is among the last 16 is a duplicate.
"""

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from streams.verify.judgement import Event, Place, Reader, Record
from streams.verify.weights import HIDING, POSITIVE, speaks

HEARTBEAT, ORDER = b"headrace.heartbeat.v1", b"headrace.privacy-order.v1"
RECENT = 16
WINDOW = 10  # items before, of which a transition tells
MOST_ITEMS, MOST_AUTHORS = 256, 64
Events = list[tuple[int, Event]]  # with their offsets, in order


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
    return {one["item"] for one in later if speaks(one)} - {event["item"]}


def _with(held: list[str], one: str, most: int) -> list[str]:
    return held if one in held else [*held, one][-most:]


@dataclass(slots=True)
class Story:
    """One reader, from the first record to the last."""

    life: Events = field(default_factory=list)  # this one, duplicates left out
    past: list[Events] = field(default_factory=list)  # lives that an order ended
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=RECENT))
    until_ms: int = -1  # no life begins with a record from before
    ordered: int = -1  # offset of the last order
    forgot: int = -1  # of the last that makes a replay of what was before it harmless
    ended: int = -1  # of the last to forget
    opted_out: bool = False
    listed: int | None = None  # the click of the last list; None: none, or taken away
    had_state: dict[str, set[bool]] = field(default_factory=dict)  # by the order's id

    def obey(self, order: dict[str, Any], offset: int, at_ms: int) -> None:
        """Carry an order out."""
        self.ordered, living = offset, bool(self.life)
        self.had_state.setdefault(order["id"], set()).add(living)
        if order["kind"] == "forget":
            if living:
                self.past.append(self.life)
            self.life, self.listed, self.forgot, self.ended = [], None, offset, offset
            self.recent.clear()
            self.until_ms = max(order["until"], at_ms)
        elif order["kind"] == "opt_out":
            self.opted_out, self.listed = True, None
            self.until_ms = -1 if living else self.until_ms
        else:
            self.opted_out, self.until_ms = False, -1
            if self.forgot >= 0 and not living:
                self.forgot = offset


@dataclass(slots=True)
class Log:
    """What the log of clicks holds."""

    stories: dict[Reader, Story] = field(default_factory=dict)
    good: dict[Place, Event] = field(default_factory=dict)  # clicks that counted when they came
    anonymous: set[Place] = field(default_factory=set)  # clicks of readers who wanted no profile
    poison: dict[Place, str] = field(default_factory=dict)  # what is no click, by its key
    twice: int = 0
    dropped: int = 0  # of readers who were forgotten, in the time of their block
    plain: list[Record] = field(default_factory=list)  # what was sent: neither heartbeats nor orders

    @property
    def alive(self) -> set[Place]:
        """Where the clicks lie that the states of readers are made of."""
        return {(key[0], offset) for key, story in self.stories.items() for offset, _ in story.life}

    @property
    def forgotten(self) -> dict[str, int]:
        """Readers whom an order ended, and the offset of the last one."""
        return {key[1]: story.ended for key, story in self.stories.items() if story.ended >= 0}


def is_of(record: Record, kind: bytes) -> bool:
    """Whether a record's `ce_type` is that."""
    return any(name == "ce_type" and value == kind for name, value in record.headers)


def without_heartbeats(records: Sequence[Record]) -> list[Record]:
    """What others than workers' heartbeats left in a log."""
    return [record for record in records if not is_of(record, HEARTBEAT)]


def read_clicks(records: Sequence[Record]) -> Log:
    """All records of all partitions."""
    log = Log()
    for record in sorted(without_heartbeats(records), key=lambda one: (one.partition, one.offset)):
        if is_of(record, ORDER):
            _order(log, record)
            continue
        log.plain.append(record)
        event = event_of(record, {"id", "user", "item", "kind", "at"})
        if event is None:
            log.poison[record.partition, record.offset] = (record.key or b"").decode()
        else:
            _click(log, record, event)
    return log


def _order(log: Log, record: Record) -> None:
    order = json.loads(record.value or b"")
    if order["home"] != record.partition:
        return  # nobody of that name has state here
    story = log.stories.setdefault((record.partition, order["user"]), Story())
    story.obey(order, record.offset, record.timestamp)


def _click(log: Log, record: Record, event: Event) -> None:
    place = record.partition, record.offset
    story = log.stories.setdefault((record.partition, event["user"]), Story())
    if not story.life and record.timestamp < story.until_ms:
        log.dropped += 1
        return
    if event["id"] in story.recent:
        log.twice += 1
        return
    story.until_ms = -1
    story.recent.append(event["id"])
    story.life.append((record.offset, event))
    story.listed = record.offset
    log.good[place] = event
    if story.opted_out:
        log.anonymous.add(place)


def event_of(record: Record, fields: set[str]) -> Event | None:
    """A record's event; None for one that is none."""
    try:
        event = json.loads(record.value or b"")
    except ValueError:
        return None
    good = isinstance(event, dict) and fields <= event.keys() and isinstance(event["at"], int)
    return event if good else None
