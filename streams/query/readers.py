"""Answers about readers and items, from the columns of the clicks agent. Reads only: a question never makes a row."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.taste.actions import KINDS
from models.taste.index import UNKNOWN, ItemIndex, hash_of
from models.taste.items.table import ItemTable
from models.taste.lists.rank import LAYERS
from models.taste.lists.reasons import Lists
from models.taste.readers.users import UserRows
from streams.query.answers import (
    Cause,
    Explained,
    Explanation,
    HalfLife,
    Neighbour,
    Neighbours,
    PastEvent,
    ReaderList,
    ReaderVector,
    Staleness,
)
from streams.taste.lists import MODEL, named

NEIGHBOURS = 50
EVENTS = 64


@dataclass(frozen=True, slots=True)
class Shelf:
    """What the clicks agent lets queries look at. `list_of` makes one reader's list, by row."""

    rows: UserRows
    items: ItemIndex
    table: ItemTable
    list_of: Callable[[int], Lists]


def reader_list(shelf: Shelf, user: str, row: int, staleness: Staleness) -> ReaderList:
    """The reader's list with its reasons."""
    (found,) = named(shelf.list_of(row), shelf.items.names)
    return ReaderList(user, int(shelf.rows.newest_at_ms[row]), MODEL, found, staleness)


def reader_vector(shelf: Shelf, user: str, row: int, staleness: Staleness) -> ReaderVector:
    """The reader's bank and ring."""
    rows = shelf.rows
    at_ms = int(rows.newest_at_ms[row])
    bank = []
    for half, half_life_ms in enumerate(rows.half_lives_ms):
        ref = int(rows.refs[row, half])
        since = max(at_ms / half_life_ms - ref, 0.0) if half_life_ms and ref >= 0 else 0.0
        sums = rows.bank[row, half].astype(np.float64) * 2.0**-since
        vector = sums[:-2]
        length = float(np.linalg.norm(vector))
        bank.append(
            HalfLife(
                half_life_ms / 1000,
                round(float(sums[-2]), 6),
                round(float(sums[-1]), 6),
                np.round(vector / length if length > 0 else vector, 5).tolist(),
            )
        )
    items, kinds, times = rows.recent(np.array([row], np.int32), min(EVENTS, rows.ring))
    events = [
        PastEvent(shelf.items.names[item], KINDS[kind], at)
        for item, kind, at in zip(items[0].tolist(), kinds[0].tolist(), times[0].tolist(), strict=True)
        if item >= 0
    ]
    return ReaderVector(user, at_ms, int(rows.fence[row]), shelf.items.dim, bank, events, staleness)


def explanation(shelf: Shelf, user: str, row: int, staleness: Staleness) -> Explanation:
    """Every part of every score of the reader's list."""
    made = shelf.list_of(row)
    names = shelf.items.names
    explained = []
    for place, item in enumerate(made.items[0].tolist()):
        if item < 0:
            break
        layers = {
            name: round(float(made.layers[0, place, layer]), 6)
            for layer, name in enumerate((*LAYERS, *made.sources))
        }
        if made.explored[0, place]:
            layers["exploration"] = round(float(made.explored[0, place]), 6)
        drawn = float(made.propensity[0, place])
        explained.append(
            Explained(
                names[item] or "",
                round(float(made.scores[0, place]), 6),
                layers,
                _causes(made, place, names),
                drawn if drawn > 0 else None,
            )
        )
    return Explanation(user, int(shelf.rows.newest_at_ms[row]), MODEL, explained, staleness)


def _causes(made: Lists, place: int, names: list[str | None]) -> list[Cause]:
    parts = made.by_past[0, place]
    return [
        Cause(
            names[int(made.past[0, nth])],
            KINDS[int(made.past_kinds[0, nth])],
            int(made.past_at_ms[0, nth]),
            round(float(parts[nth]), 6),
        )
        for nth in np.argsort(-parts, kind="stable").tolist()
        if parts[nth] > 0 and made.past[0, nth] >= 0
    ]


def neighbours(shelf: Shelf, item: str, staleness: Staleness) -> Neighbours | None:
    """What follows an item; None for one without a row in the item table."""
    table = shelf.table
    index = shelf.items.index_of(hash_of(item))
    if index == UNKNOWN or index >= len(table.present) or not table.present[index]:
        return None
    keys, weights = table.followers.heaviest(np.array([index], np.int64), NEIGHBOURS)
    whole = max(float(table.row_sums(np.array([index], np.int32))[0]), float(weights.sum()), 1e-30)
    found = [
        Neighbour(shelf.items.names[key] or "", round(weight / whole, 6))
        for key, weight in zip(keys[0].tolist(), weights[0].tolist(), strict=True)
        if key > UNKNOWN and shelf.items.names[key] is not None
    ]
    popularity = float(table.popularity[index]) / max(float(table.popularity.max(initial=0)), 1e-30)
    return Neighbours(item, round(popularity, 6), found, staleness)
