"""Scores of all items for a batch of readers, (B, I), for whoever needs more than the best by counts, taste and
popularity: further sources, a walk, a measurement. For the formulas see `models.taste.lists.rank`."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.taste.best import top_k
from models.taste.items.table import ItemTable, Prepared
from models.taste.lists import sources
from models.taste.lists.counts import counts_of
from models.taste.lists.rank import LAYERS, RankSettings, Scored, readers_of, strangers
from models.taste.lists.sources import Parts, Weighted
from models.taste.readers.users import UserRows

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
Bools = NDArray[np.bool_]

_WALK_FROM = 30  # best items by counts from which a second step goes


def without_taste(
    table: ItemTable,
    users: UserRows,
    rows: I32,
    now_ms: int,
    settings: RankSettings,
    anonymous: Bools | None = None,
    further: Sequence[Weighted] = (),
) -> tuple[F32, Scored]:
    """All scores (B, I) but for their taste, no filter applied, and what they are made of. For readers who are
    `anonymous` (B,) they are those of popular items. `further` sources are asked as well. `table.cover()` comes first.
    """
    prepared = table.prepared(now_ms, settings.popularity_power)
    readers = readers_of(table, users, rows, now_ms, settings, anonymous)
    scores, scale = counts_of(table, prepared, readers)
    given = _given(table, users, rows, now_ms, settings, scores, scale, further, anonymous)
    readers.scaled_by(scale)
    scores += readers.weight[:, None] * prepared.popularity
    for one in given.scores:
        scores += one
    return scores, Scored(readers, given)


def popular(table: ItemTable, rows: I32, now_ms: int, settings: RankSettings) -> tuple[F32, Scored]:
    """Scores (B, I) of popularity alone: what a list falls back to when there is no time for more."""
    readers = strangers(table, len(rows), settings)
    prepared = table.prepared(now_ms, settings.popularity_power)
    return readers.weight[:, None] * prepared.popularity, Scored(readers)


def layer_scores(
    table: ItemTable,
    users: UserRows,
    rows: I32,
    now_ms: int,
    settings: RankSettings,
    further: Sequence[Weighted] = (),
) -> tuple[F32, Bools]:
    """The parts of all scores (3 + S, B, I), as LAYERS and then the S `further` sources (last the walk, if on),
    before any filter, and which items may be listed at all (I,). What a list adds up, for those who measure the layers
    one by one.
    """
    table.cover()
    size = len(table.items)
    prepared = table.prepared(now_ms, settings.popularity_power)
    readers = readers_of(table, users, rows, now_ms, settings)
    counts, scale = counts_of(table, prepared, readers)
    given = _given(table, users, rows, now_ms, settings, counts, scale, further)
    readers.scaled_by(scale)
    parts = np.empty((len(LAYERS) + len(given.scores), len(rows), size), np.float32)
    parts[0] = counts
    np.matmul(readers.wanted, table.sketches[:size].T, out=parts[1])
    np.multiply(readers.weight[:, None], prepared.popularity, out=parts[2])
    parts[len(LAYERS) :] = given.scores or 0
    return parts, ~prepared.barred


def _given(
    table: ItemTable,
    users: UserRows,
    rows: I32,
    now_ms: int,
    settings: RankSettings,
    counts: F32,
    scale: F32,
    further: Sequence[Weighted],
    anonymous: Bools | None = None,
) -> Parts:
    """What further sources add and, last, the walk."""
    given = sources.parts(further, users, rows, now_ms, scale, anonymous)
    return given.and_one("walk", _walk(table, counts, scale, now_ms, settings)) if settings.walk else given


def _walk(table: ItemTable, counts: F32, scale: F32, now_ms: int, settings: RankSettings) -> F32:
    """(B, I) where a second step leads from the best items by counts (B, I): at most q * m."""
    batch, size = counts.shape
    prepared: Prepared = table.prepared(now_ms, settings.popularity_power)
    best, heads = top_k(np.where(counts > 0, counts, np.float32(-np.inf)), min(_WALK_FROM, size))
    heads /= np.maximum(heads.sum(axis=1, keepdims=True), np.float32(1e-30))
    heads /= ((1 + table.row_sums(np.maximum(best, 0)) * prepared.factor) ** settings.row_power).astype(
        np.float32
    )
    reader, nth = np.nonzero(heads > 0)
    source = best[reader, nth]
    keys = table.followers.keys[source]
    held = keys >= 0
    parts = (table.followers.weights[source] * heads[reader, nth][:, None])[held]
    cells = (reader[:, None] * size + keys)[held]
    found = np.bincount(cells, parts, batch * size).astype(np.float32).reshape(batch, size)
    found *= prepared.column
    largest = np.maximum(found.max(axis=1, initial=0), np.float32(1e-30))
    found *= (np.float32(settings.walk) * scale / largest)[:, None]
    return found
