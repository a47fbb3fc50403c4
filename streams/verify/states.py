"""The readers' states after a run, byte by byte and sum by sum. Shares no code with the worker.

The state's bytes are read here a second time, from the description of the layout: version u1, settings u4, fence i8,
newest i8, refs i8[H], filled u2, bank f4[H, D + 2] with the net and the gross sum last, the last ids (u1, u8[16]), how
many items (u2) and authors (u1) are hidden, then the ring's entries of item hash u8, kind u1 (its high bit: the weight
is below 0), weight u2, time u4 and u2, then hashes u8 of what is hidden. Sums are compared with float64 sums over all
of a reader's events. Under keys that begin with the byte 0xff lie rows of the
privacy register: version u1, 0 u4, fence i8, forgot i8, until i8, at i8, opted out u1.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from hashlib import blake2b

import numpy as np

from streams.verify.judgement import Event, Judgement, Reader, Record, Rules
from streams.verify.readers import Left, Story, left_of
from streams.verify.weights import kind_of, steps_of

CLOSE = 1e-3  # of float32 sums of thousands of events, with weights in steps of 1/256
REGISTER = b"\xff"
_REGISTERED = struct.Struct("<BIqqqqB")

States = Mapping[Reader, bytes]


def standing(changelog: Sequence[Record], stories: Mapping[Reader, Story]) -> dict[Reader, bytes]:
    """(partition, reader) -> the row with the highest fence, of equal ones the last; none from before the reader was
    forgotten."""
    rows: dict[Reader, bytes] = {}
    for record in changelog:
        if record.value is None or (record.key or b"").startswith(REGISTER):
            continue
        key = record.partition, (record.key or b"").decode()
        ended = stories[key].ended if key in stories else -1
        if fence_of(record.value) > ended and (
            key not in rows or fence_of(record.value) >= fence_of(rows[key])
        ):
            rows[key] = record.value
    return rows


def check_states(result: Judgement, rows: States, stories: Mapping[Reader, Story], rules: Rules) -> None:
    """Whoever is alive has a state, of their last life alone; nobody else has one."""
    living = {key: story for key, story in stories.items() if story.life}
    result.note("readers", len(living), len(rows))
    for key, story in living.items():
        if key in rows:
            events = [event for _, event in story.life]
            wrong = _differs(rows[key], events, story.life[-1][0], left_of(story.life, rules.ring), rules)
            if wrong:
                result.differ(f"state of {key[1]}: {wrong}")


def check_forgotten(result: Judgement, changelog: Sequence[Record], stories: Mapping[Reader, Story]) -> None:
    """What compaction leaves of the changelog has no row of a reader who was forgotten and did not come back; the
    register knows every order by the reader's hash."""
    last: dict[tuple[int, bytes], bytes | None] = {}
    register: dict[tuple[int, bytes], tuple[int, int, bool]] = {}
    for record in changelog:
        key = record.partition, record.key or b""
        last[key] = record.value
        if key[1].startswith(REGISTER) and record.value is not None:
            _, _, fence, forgot, _, _, opted_out = _REGISTERED.unpack(record.value)
            register[key] = max(register.get(key, (-1, -1, False)), (fence, forgot, bool(opted_out)))
    gone = {key for key, story in stories.items() if story.ended >= 0 and not story.life}
    left = sum(last.get((partition, user.encode())) is not None for partition, user in gone)
    result.note("rows left of readers who were forgotten", 0, left)
    ordered = {key: story for key, story in stories.items() if story.ordered >= 0}
    result.note("readers in the privacy register", len(ordered), len(register))
    for (partition, user), story in ordered.items():
        found = register.get((partition, hash_of_reader(user)))
        if found != (story.ordered, story.forgot, story.opted_out):
            result.differ(
                f"the register has {found} for {user}, not {story.ordered, story.forgot, story.opted_out}"
            )


def hash_of_reader(user: str) -> bytes:
    """The register's key, without a secret."""
    return REGISTER + blake2b(user.encode(), digest_size=16, person=b"headrace-privacy").digest()


def fence_of(row: bytes) -> int:
    """Offset of the last click in a row of state."""
    return int.from_bytes(row[5:13], "little", signed=True)


def _differs(row: bytes, events: list[Event], fence: int, left: Left, rules: Rules) -> str | None:
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
    wanted = [(hash_of_item(e["item"]), kind_of(e), abs(steps_of(e)), e["at"]) for e in left.ring]
    held = [
        (int(e["hash"]), int(e["kind"]), int(e["size"]), int(e["low"]) | int(e["high"]) << 32) for e in ring
    ]
    if held != wanted:
        return "the ring does not hold the last events in their order"
    hashes, items = np.frombuffer(row[stop:], "<u8").tolist(), int(found["hidden"])
    if hashes[:items] != [hash_of_item(item) for item in left.items]:
        return "it does not hide the items that the reader hid"
    authors = [hash_of_item(author) for author in left.authors]
    if hashes[items:] != authors or int(found["authors"]) != len(authors):
        return "it does not hide the authors that the reader hid"
    for place, half_life_s in enumerate(rules.half_lives_s):
        ref = int(found["refs"][place])

        def scaled(
            some: Sequence[Event], at: int = ref, half_life_ms: float = half_life_s * 1000
        ) -> list[float]:
            return [
                steps_of(e) / 256 * 2 ** max(-1000.0, min(1000.0, e["at"] / half_life_ms - at)) for e in some
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


def hash_of_item(item: str) -> int:
    """As states hold it."""
    return int.from_bytes(blake2b(item.encode(), digest_size=8).digest(), "little")
