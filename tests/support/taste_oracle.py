"""What the readers' state must be: the whole log of clicks, event by event, through `models.taste` into fresh rows.

Shares the arithmetic of a fold with the product and nothing else: no batches, groups, fences, changelog or recovery.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from xxhash import xxh3_64_intdigest

from models.taste.actions import CODES, weights_of
from models.taste.index import ItemIndex, hash_of
from models.taste.readers.users import UserRows
from streams.settings import Settings


def replayed(settings: Settings, log: Sequence[Any]) -> dict[tuple[int, str], bytes]:
    """(partition, user) -> encoded state. What is not JSON is skipped; other bad records must not be in the log."""
    items = ItemIndex(dim=settings.taste.dim, max_items=settings.taste.max_items)
    partitions: dict[int, UserRows] = {}
    for record in sorted(log, key=lambda r: (r.partition, r.offset)):
        try:
            event = json.loads(record.value)
        except ValueError:
            continue
        rows = partitions.get(record.partition)
        if rows is None:
            rows = UserRows(items, half_lives_s=settings.taste.half_lives_s, ring=settings.taste.ring)
            partitions[record.partition] = rows
        kinds = np.array([CODES[event["kind"]]], np.int8)
        dwell_s = np.array([event.get("dwell_s", np.nan)], np.float64)
        rows.fold(
            [event["user"]],
            items.lookup([event["item"]]),
            kinds,
            weights_of(kinds, dwell_s),
            np.array([event["at"]], np.int64),
            np.array([record.offset], np.int64),
            ids=np.array([xxh3_64_intdigest(event["id"].encode())], np.uint64),
            authors={0: hash_of(event["author"])} if event.get("author") else {},
        )
    return {
        (partition, user): state
        for partition, rows in partitions.items()
        for user, state in zip(rows.users(), rows.encode(rows.rows_of(rows.users())), strict=True)
    }
