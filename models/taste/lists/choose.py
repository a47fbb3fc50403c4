"""The best items of a batch of readers that may be listed, and what speaks for them. NumPy alone.

All scores are made and looked at where there are few items, or where a source speaks that knows only all of them; else
only the items that can be among the best (`models.taste.lists.near`). Both give the same lists.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.taste.best import top_k
from models.taste.items.table import ItemTable
from models.taste.lists import filters, near
from models.taste.lists.barred import Barred
from models.taste.lists.rank import RankSettings, Scored, popular, readers_of, score, weights
from models.taste.lists.reasons import Lists, explain, joined
from models.taste.lists.sources import Weighted
from models.taste.readers.users import UserRows

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

TOGETHER = 256  # readers at once: what every NumPy call costs is shared by them
_FEW = 8192  # items of which all are looked at
_CELLS = 1 << 22  # readers x items at once at most: 16 MB an array


@dataclass(frozen=True, slots=True)
class Best:
    """Up to k items of each reader, as the scores order them."""

    scored: Scored
    items: I32  # (B, k) best first, equal scores by index, -1 padded
    scores: F32  # (B, k)


def batch_size(table: ItemTable) -> int:
    """Readers that are ranked at once."""
    return max(1, min(TOGETHER, _CELLS // len(table.items)))


def best(
    table: ItemTable,
    users: UserRows,
    rows: I32,
    now_ms: int,
    k: int,
    settings: RankSettings,
    barred: Barred,
    anonymous: Bools | None = None,
    further: Sequence[Weighted] = (),
) -> Best:
    """The k best for readers by row (B,), of whom nothing is looked at where they are `anonymous` (B,)."""
    if further or settings.walk or len(table.items) <= _FEW:
        return _of_all(table, users, rows, now_ms, k, settings, barred, anonymous, further)
    size = len(table.items)
    prepared = table.prepared(now_ms, settings.popularity_power)
    readers = readers_of(table, users, rows, now_ms, settings, anonymous, even=True)
    counts = near.Counts(table, prepared, readers.followers, barred.all_pairs(size))
    wanted, weight = weights(users, rows, readers.past, counts.scale, settings, anonymous)
    found = near.search(table, prepared, counts, barred.mask(size), wanted, weight, k)
    rest = np.flatnonzero(~found.certain)
    if len(rest):
        some = None if anonymous is None else anonymous[rest]
        other = _of_all(
            table, users, rows[rest], now_ms, k, settings, barred.of(rest, len(rows)), some, further
        )
        found.items[rest], found.scores[rest] = other.items, other.scores
        # The scratch that they were made in was used.
        readers = readers_of(table, users, rows, now_ms, settings, anonymous, even=True)
    return Best(Scored(readers, wanted, weight), found.items, found.scores)


def most_popular(
    table: ItemTable, rows: I32, now_ms: int, k: int, settings: RankSettings, barred: Barred
) -> Best:
    """The k most popular ones."""
    scores, scored = popular(table, rows, now_ms, settings)
    filters.mask(scores, barred.everywhere, barred.pairs)
    return Best(scored, *top_k(scores, k))


def _of_all(
    table: ItemTable,
    users: UserRows,
    rows: I32,
    now_ms: int,
    k: int,
    settings: RankSettings,
    barred: Barred,
    anonymous: Bools | None,
    further: Sequence[Weighted],
) -> Best:
    """By a look at all items."""
    scores, scored = score(table, users, rows, now_ms, settings, anonymous, further)
    filters.mask(scores, barred.everywhere, barred.pairs)
    return Best(scored, *top_k(scores, k))


def rank(
    table: ItemTable,
    users: UserRows,
    rows: I32,
    now_ms: int,
    k: int,
    settings: RankSettings,
    further: Sequence[Weighted] = (),
) -> Lists:
    """The k best for users by row (B,), without the later stages of `models.taste.lists.pipeline`. `now_ms` is event
    time: popularity and counts are taken at that moment.

    `users` and `table` share one ItemIndex. Items seen (unless `repeat`), hidden or without a name are never
    listed. Large batches are ranked in parts, so that working memory does not grow with them.
    """
    table.cover()
    most = batch_size(table)
    parts = []
    for start in range(0, max(len(rows), 1), most):
        part = rows[start : start + most]
        items, kinds = users.held(part)
        everywhere = table.prepared(now_ms, settings.popularity_power).barred
        barred = Barred(everywhere, (filters.had(items, kinds, settings.repeat), users.hidden.pairs(part)[0]))
        found = best(table, users, part, now_ms, k, settings, barred, further=further)
        parts.append(explain(table, found.scored, found.items, found.scores, now_ms, settings))
    return joined(parts)
