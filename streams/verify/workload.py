"""The numbered load of a run: clicks of few busy and many quiet readers, short comments, orders of readers, and poison
between them. Pure.

The same seed gives the same records, byte for byte.
"""

import json
from dataclasses import dataclass
from random import Random

USERS, ITEMS, AUTHORS = 2_000, 500, 20
KINDS = ("click", "click", "click", "like", "dwell", "save", "skip", "impression", "hide", "undo")
FOUND = 0.8  # of the undos are of an item that the reader had
AGAIN_EVERY = 200  # about one click in so many is sent twice
REORDERED = 12  # a record may be passed by those up to so many behind it
SOURCE = ("source", b"verify")  # a header of each record, which dead letters must keep
POISON_EVERY = 500  # about one record in so many
WORDS = ("a wonderful concert", "a dull and endless film", "the river rose", "they sang well", "nobody came")


@dataclass(frozen=True, slots=True)
class Sent:
    """One record of an input topic."""

    topic: str
    key: bytes
    value: bytes


def clicks(count: int, seed: int, start_ms: int) -> list[Sent]:
    """Clicks 0..count-1; times run on by 20 ms and are up to 5 s late."""
    random = Random(seed)
    found = []
    had: dict[str, str] = {}  # reader -> an item of theirs, to be taken back
    for n in range(count):
        user = f"u{int(USERS * random.random() ** 3)}"
        item, kind = f"i{int(ITEMS * random.random() ** 2)}", random.choice(KINDS)
        if kind == "undo" and random.random() < FOUND:
            item = had.get(user, item)
        elif random.random() < 0.5:
            had[user] = item
        event = {
            "id": f"c{n}",
            "user": user,
            "item": item,
            "kind": kind,
            "at": start_ms + 20 * n - random.randrange(5000),
        }
        if event["kind"] == "dwell":
            event["dwell_s"] = round(random.random() * 60, 1)
        if event["kind"] in ("hide", "undo") and random.random() < 0.5:
            event["author"] = f"author {random.randrange(AUTHORS)}"
        found.append(_perhaps_poisoned(random, Sent("clicks", user.encode(), json.dumps(event).encode())))
        if random.randrange(AGAIN_EVERY) == 0:
            found.append(found[-1])  # as a producer does that saw no answer
    return _reordered(random, found)


def comments(count: int, seed: int, start_ms: int) -> list[Sent]:
    """Texts for the sentiment task."""
    random = Random(seed + 1)
    found = []
    for n in range(count):
        text = f"{random.choice(WORDS)}, {random.choice(WORDS)}, number {n}"
        event = {
            "id": f"m{n}",
            "asset": f"a{n}",
            "at": start_ms + n,
            "media_type": "text/plain",
            "text": text,
        }
        found.append(_perhaps_poisoned(random, Sent("uploads", f"a{n}".encode(), json.dumps(event).encode())))
    return found


def orders(count: int, seed: int, start_ms: int) -> list[Sent]:
    """What readers ask for, busy ones most; about half of them to be forgotten."""
    random = Random(seed + 3)
    found = []
    for n in range(count):
        user = f"u{int(USERS * random.random() ** 6)}"
        kind = random.choice(("forget", "forget", "opt_out", "opt_in"))
        event = {"id": f"p{n}", "user": user, "kind": kind, "at": start_ms + n}
        found.append(Sent("privacy", user.encode(), json.dumps(event).encode()))
        if n % 20 == 10:
            found.append(Sent("privacy", user.encode(), b'{"id": "x", "at": "yesterday"}'))
    return found


def _reordered(random: Random, sent: list[Sent]) -> list[Sent]:
    """As of a producer with several connections; what is sent twice may come again after others."""
    places = [n + REORDERED * random.random() for n in range(len(sent))]
    return [sent[n] for n in sorted(range(len(sent)), key=places.__getitem__)]


def _perhaps_poisoned(random: Random, sent: Sent) -> Sent:
    draw = random.randrange(2 * POISON_EVERY)
    if draw == 0:
        return Sent(sent.topic, sent.key, sent.value[: len(sent.value) // 2])  # cut off
    if draw == 1:
        return Sent(sent.topic, sent.key, b'{"id": "x", "at": "yesterday"}')  # JSON of another shape
    return sent
