"""The readers' state after a plain reading of the clicks by the worker's own fold: what a run with no fault at all has.

The oracle shares no code with the worker and so compares sums within float32's reach; this compares every byte.
"""

import json
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from xxhash import xxh3_64_intdigest

from models.taste.actions import CODES, weights_of
from models.taste.index import ItemIndex, hash_of
from models.taste.readers.users import UserRows
from streams.settings import Settings

AT_ONCE = 2_000  # clicks; the state's bits do not depend on it


def replayed(
    settings: Settings, log: Sequence[Any], alive: Collection[tuple[int, int]]
) -> dict[tuple[int, str], bytes]:
    """(partition, reader) -> encoded state, from the records of `clicks` whose (partition, offset) is in `alive`."""
    items = ItemIndex(dim=settings.taste.dim, max_items=settings.taste.max_items)
    partitions: dict[int, list[tuple[int, dict[str, Any]]]] = {}
    for record in sorted(log, key=lambda r: (r.partition, r.offset)):
        if (record.partition, record.offset) in alive:
            event = json.loads(record.value or b"")
            partitions.setdefault(record.partition, []).append((record.offset, event))
    found: dict[tuple[int, str], bytes] = {}
    for partition, events in partitions.items():
        rows = UserRows(items, half_lives_s=settings.taste.half_lives_s, ring=settings.taste.ring)
        for start in range(0, len(events), AT_ONCE):
            _fold(rows, items, events[start : start + AT_ONCE])
        users = rows.users()
        states = rows.encode(rows.rows_of(users))
        found |= {(partition, user): state for user, state in zip(users, states, strict=True)}
    return found


def _fold(rows: UserRows, items: ItemIndex, part: Sequence[tuple[int, dict[str, Any]]]) -> None:
    events = [event for _, event in part]
    kinds = np.array([CODES[event["kind"]] for event in events], np.int8)
    dwell_s = np.array([event.get("dwell_s", np.nan) for event in events], np.float64)
    rows.fold(
        [event["user"] for event in events],
        items.lookup([event["item"] for event in events]),
        kinds,
        weights_of(kinds, dwell_s),
        np.array([event["at"] for event in events], np.int64),
        np.array([offset for offset, _ in part], np.int64),
        ids=np.array([xxh3_64_intdigest(event["id"].encode()) for event in events], np.uint64),
        authors={place: hash_of(e["author"]) for place, e in enumerate(events) if e.get("author")},
    )
