"""The best items of a batch of readers that may be listed. Compiled.

By counts, taste and popularity only few of all items are looked at; where a source speaks that knows all of them, or a
walk, all are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.taste.best import best_of_all, of_followers, top_k
from models.taste.items.table import ItemTable
from models.taste.lists import filters
from models.taste.lists.barred import Barred
from models.taste.lists.rank import RankSettings, Scored, readers_of
from models.taste.lists.reasons import Lists, explain, joined
from models.taste.lists.scores import popular, without_taste
from models.taste.lists.sources import Weighted
from models.taste.readers.users import UserRows

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
Bools = NDArray[np.bool_]

TOGETHER = 256  # readers at once: what every call costs is shared by them
_CELLS = 1 << 22  # readers x items at once at most, where all are looked at: 16 MB an array


@dataclass(frozen=True, slots=True)
class Best:
    """Up to k items of each reader, as the scores order them."""

    scored: Scored
    items: I32  # (B, k) best first, equal scores by index, -1 padded
    scores: F32  # (B, k)


def batch_size(table: ItemTable, settings: RankSettings, further: Sequence[Weighted] = ()) -> int:
    """Readers that are ranked at once."""
    return max(1, min(TOGETHER, _CELLS // len(table.items))) if _of_all(settings, further) else TOGETHER


def _of_all(settings: RankSettings, further: Sequence[Weighted]) -> bool:
    """Whether all items are looked at."""
    return bool(further or settings.walk)


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
    if _of_all(settings, further):
        bases, scored = without_taste(table, users, rows, now_ms, settings, anonymous, further)
        filters.mask(bases, barred.everywhere, barred.pairs)
        return Best(scored, *best_of_all(bases, scored.readers.wanted, table.sketches, table.rough, k))
    prepared = table.prepared(now_ms, settings.popularity_power)
    readers = readers_of(table, users, rows, now_ms, settings, anonymous)
    items, scores = np.empty((len(rows), k), np.int32), np.empty((len(rows), k), np.float32)
    of_followers(
        readers.past, readers.heads, table.followers.keys, table.followers.weights, prepared.column,
        prepared.popularity, prepared.peaks, table.sketches, table.rough, barred.mask(len(prepared.column)),
        barred.joined(), readers.scaled, table.sums, readers.wanted, readers.weight, items, scores,
    )  # fmt: skip
    return Best(Scored(readers), items, scores)


def most_popular(
    table: ItemTable, rows: I32, now_ms: int, k: int, settings: RankSettings, barred: Barred
) -> Best:
    """The k most popular ones."""
    scores, scored = popular(table, rows, now_ms, settings)
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
    most = batch_size(table, settings, further)
    parts = []
    for start in range(0, max(len(rows), 1), most):
        part = rows[start : start + most]
        everywhere = table.prepared(now_ms, settings.popularity_power).barred
        barred = Barred(everywhere, (filters.had(users, part, settings.repeat), users.hidden.pairs(part)[0]))
        found = best(table, users, part, now_ms, k, settings, barred, further=further)
        parts.append(explain(table, found.scored, found.items, found.scores, now_ms, settings))
    return joined(parts)
