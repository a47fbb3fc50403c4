"""What readers do in a simulated run, and what must come of it: the clean replay that a run is compared with."""

import functools
import json
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from models.taste.readers.layout import KEPT
from simulated.log import Stored
from simulated.loop import VirtualClock
from streams.settings import Settings, load
from taste_oracle import replayed

KINDS = ("click", "click", "like", "skip", "impression")
MOVES = ("click", "like", "impression")  # kinds that make a transition
ITEMS = 12


@dataclass(frozen=True, slots=True)
class Input:
    """One input record, and what a single clean pass makes of it."""

    partition: int
    offset: int
    at_s: float  # when it is produced
    user: str
    value: bytes
    outcome: str  # "applied" | "duplicate" | "rejected"
    transition: bool

    def stored(self) -> Stored:
        return Stored(self.offset, VirtualClock.EPOCH_MS + 1000, self.user.encode(), self.value, ())


@dataclass(frozen=True, slots=True)
class Workload:
    """Inputs by partition, in the order of offsets, and the final state of every reader."""

    partitions: tuple[tuple[Input, ...], ...]
    states: dict[tuple[int, str], bytes]


@functools.cache
def settings_for(delivery: str) -> Settings:
    """Small rows, short waits: much happens in a few simulated seconds."""
    return load(
        None,
        {
            "kafka": {
                "group": "sim",
                "session_timeout_s": 1.5,
                "heartbeat_interval_s": 0.4,
                "rebalance_timeout_s": 3.0,
                "request_timeout_s": 1.0,
            },
            "topics": {"partitions": 3},
            "worker": {"delivery": delivery, "drain_s": 0.5, "grace_s": 8.0, "agents": ("clicks",)},
            "reader": {
                "max_poll_records": 8,
                "batches_in_flight": 3,
                "group_records": 12,
                "groups_in_flight": 4,
                "commit_interval_s": 0.2,
                "transaction_interval_ms": 30.0,
            },
            "taste": {"dim": 64, "half_lives_s": (60.0,), "ring": 4, "output": "touched"},
        },
    )


@functools.lru_cache(maxsize=64)
def workload(number: int) -> Workload:
    """Hot and cold readers in bursts, some events twice, some records damaged, offsets with gaps."""
    chance = random.Random(number)
    partitions = tuple(
        tuple(_partition(chance, partition, chance.randint(4, 16)))
        for partition in range(settings_for("at_least_once").topics.partitions)
    )
    log = [
        _Logged(i.partition, i.offset, i.value)
        for part in partitions
        for i in part
        if i.outcome != "rejected"
    ]
    return Workload(partitions, replayed(settings_for("at_least_once"), log))


@dataclass(frozen=True, slots=True)
class _Logged:
    partition: int
    offset: int
    value: bytes


def _partition(chance: random.Random, partition: int, count: int) -> Sequence[Input]:
    found: list[Input] = []
    recent: dict[str, deque[str]] = {}
    made: list[tuple[str, str, bytes, str]] = []  # user, id, value, kind
    at_s, offset = 0.05, 0
    for number in range(count):
        at_s += chance.choice((0.0, 0.0, 0.05, 0.6, 0.6)) * chance.random()
        offset += 1 if chance.random() < 0.9 else chance.randint(2, 4)
        draw = chance.random()
        if draw < 0.06:
            found.append(Input(partition, offset, at_s, "nobody", b"{broken", "rejected", False))
            continue
        if draw < 0.2 and made:
            user, name, value, kind = chance.choice(made[-6:])
        else:
            user, name, kind = (
                f"u{partition}.{min(2, int(chance.expovariate(1)))}",
                f"e{partition}-{number}",
                "click",
            )
            kind = chance.choice(KINDS)
            event = {
                "id": name,
                "user": user,
                "item": f"i{chance.randrange(ITEMS)}",
                "kind": kind,
                "at": VirtualClock.EPOCH_MS + number * 10,
            }
            value = json.dumps(event).encode()
            made.append((user, name, value, kind))
        ids = recent.setdefault(user, deque(maxlen=KEPT))
        if name in ids:
            found.append(Input(partition, offset, at_s, user, value, "duplicate", False))
        else:
            ids.append(name)
            found.append(Input(partition, offset, at_s, user, value, "applied", kind in MOVES))
    return found
