"""Scores for a batch of users: counts, taste vectors and popularity blended; exactly the k best; what each is made of.
NumPy alone. What happens between scores and reasons is in `models.taste.lists.pipeline`.

    L0(i)   = sum over the last W positive items j_k
              of lambda**(k-1) * C[j_k, i] / ((1 + row[j_k])**b * (1 + col[i])**a)
    L1(i)   = sum over half-lives h of beta_h * cos(bank_h, sketch_i)
    score   = L0 + m * (beta * L1 + p * popularity / max popularity),  m = the user's largest L0, 1 if that is 0

A second step along the counts (`walk`) finds what goes with what goes with the reader's items; weight q, at the scale
of m like the rest. Further sources (`models.taste.lists.sources`) add their scores at the scale of m, too. A user
without history gets popular items. Every term is a sum over known parts, so shares and reasons are exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.taste import actions
from models.taste.best import top_k
from models.taste.index import UNKNOWN
from models.taste.items.table import ItemTable, Prepared
from models.taste.lists import sources
from models.taste.lists.counts import Followers
from models.taste.lists.sources import Parts, Weighted
from models.taste.readers.users import UserRows

F32 = NDArray[np.float32]
I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

LAYERS = ("counts", "taste", "popularity")
_TINY = np.float32(1e-30)
_WALK_FROM = 30  # best items by counts from which a second step goes


@dataclass(frozen=True, slots=True)
class RankSettings:
    """How layers are weighed; symbols as in the formulas above. A starting point: `taste` is not tuned yet."""

    window: int = 10  # W, recent items that count
    order_decay: float = 0.85  # lambda: the k-th most recent item counts lambda**(k-1)
    popularity_power: float = 0.35  # a: how far an item's own popularity is divided out
    row_power: float = 0.5  # b: the same for the items had
    popularity: float = 0.1  # p; 0 switches the layer off, except for users of whom nothing is known
    counts: bool = True  # L0
    taste: float = 0.1  # beta; 0 switches L1 off
    half_lives: tuple[float, ...] | None = None  # beta_h; None weighs them equally, sum 1
    walk: float = 0.0  # q; 0: no second step
    repeat: bool = False  # may an item of the user's ring be listed again


@dataclass(frozen=True, slots=True)
class Readers:
    """B readers' last items and what follows them. Valid until the table's next use: arrays lie in its scratch."""

    past: I32  # (B, W) most recent first, -1 where none or not positive
    kinds: I8  # (B, W)
    at_ms: I64  # (B, W)
    followers: Followers


@dataclass(frozen=True, slots=True)
class Scored:
    """What the scores of a batch are made of."""

    readers: Readers
    wanted: F32  # (B, D) taste: its dot product with a sketch is the layer
    weight: F32  # (B,) of popularity
    parts: Parts = field(default_factory=Parts)  # of further sources
    counts: F32 | None = None  # (B, I) L0 in the table's scratch, where all items were looked at


def readers_of(
    table: ItemTable,
    users: UserRows,
    rows: I32,
    now_ms: int,
    settings: RankSettings,
    anonymous: Bools | None = None,
    even: bool = False,
) -> Readers:
    """Readers by row. Of those who are `anonymous` (B,) nothing is looked at. `even`: as `Followers.of`.
    `table.cover()` comes first."""
    past, kinds, at_ms = users.recent(rows, settings.window)
    past[~actions.is_positive(kinds) | (past == UNKNOWN)] = -1
    if anonymous is not None:
        past[anonymous] = -1
    return Readers(past, kinds, at_ms, _followers(table, past, now_ms, settings, even))


def score(
    table: ItemTable,
    users: UserRows,
    rows: I32,
    now_ms: int,
    settings: RankSettings,
    anonymous: Bools | None = None,
    further: Sequence[Weighted] = (),
) -> tuple[F32, Scored]:
    """All scores (B, I) in the table's scratch, no filter applied, and what they are made of. For readers who are
    `anonymous` (B,) they are those of popular items. `further` sources are asked as well. `table.cover()` comes first.
    """
    size = len(table.items)
    counts = table.scratch.array("counts", (len(rows), size), np.float32)
    scores = table.scratch.array("scores", (len(rows), size), np.float32)
    readers = readers_of(table, users, rows, now_ms, settings, anonymous)
    readers.followers.write_to(counts)
    scale = largest(counts)
    wanted, weight = weights(users, rows, readers.past, scale, settings, anonymous)
    prepared = table.prepared(now_ms, settings.popularity_power)
    table.products(prepared.both(wanted, weight), scores)
    scores += counts
    given = sources.parts(further, users, rows, now_ms, scale, anonymous)
    if settings.walk:
        given = given.and_one("walk", _walk(table, counts, scale, settings, prepared))
    for part in given.scores:
        scores += part
    return scores, Scored(readers, wanted, weight, given, counts)


def popular(table: ItemTable, rows: I32, now_ms: int, settings: RankSettings) -> tuple[F32, Scored]:
    """Scores of popularity alone: what a list falls back to when there is no time for more."""
    batch, window = len(rows), settings.window
    scores = table.scratch.array("scores", (batch, len(table.items)), np.float32)
    prepared = table.prepared(now_ms, settings.popularity_power)
    weight = np.full(batch, settings.popularity or 1, np.float32)
    np.multiply(weight[:, None], prepared.popularity, out=scores)
    past = np.full((batch, window), -1, np.int32)
    kinds, at_ms = np.zeros((batch, window), np.int8), np.zeros((batch, window), np.int64)
    readers = Readers(past, kinds, at_ms, _followers(table, past, now_ms, settings))
    return scores, Scored(readers, np.zeros((batch, table.items.dim), np.float32), weight)


def layer_scores(
    table: ItemTable,
    users: UserRows,
    rows: I32,
    now_ms: int,
    settings: RankSettings,
    further: Sequence[Weighted] = (),
) -> tuple[F32, Bools]:
    """The parts of all scores (3 + S, B, I), as LAYERS and then the S `further` sources (last the walk, if on),
    before any filter, and which items may be listed at all (I,). What `rank` adds up, for those who measure the layers
    one by one.
    """
    table.cover()
    size = len(table.items)
    readers = readers_of(table, users, rows, now_ms, settings)
    prepared = table.prepared(now_ms, settings.popularity_power)
    parts = np.empty((len(LAYERS), len(rows), size), np.float32)
    readers.followers.write_to(parts[0])
    scale = largest(parts[0])
    wanted, weight = weights(users, rows, readers.past, scale, settings)
    np.matmul(wanted, table.sketches[:size].T, out=parts[1])
    np.multiply(weight[:, None], prepared.popularity, out=parts[2])
    given = sources.parts(further, users, rows, now_ms, scale)
    if settings.walk:
        given = given.and_one("walk", _walk(table, parts[0], scale, settings, prepared))
    if given.scores:
        parts = np.concatenate([parts, np.stack(given.scores)])
    listable = np.ones(parts.shape[2], np.bool_)
    listable[prepared.barred] = False
    return parts, listable


def _followers(
    table: ItemTable, past: I32, now_ms: int, settings: RankSettings, even: bool = False
) -> Followers:
    """Of these past items (B, W), -1 none; of nobody's where counts are off."""
    if not settings.counts:
        past = np.full_like(past, -1)
    prepared = table.prepared(now_ms, settings.popularity_power)
    row = 1 + table.row_sums(np.maximum(past, 0)) * prepared.factor
    heads = settings.order_decay ** np.arange(past.shape[1]) / row**settings.row_power
    return Followers.of(table.followers, past, heads, prepared.column, table.scratch, even)


def _walk(table: ItemTable, counts: F32, scale: F32, settings: RankSettings, prepared: Prepared) -> F32:
    """(B, I) where a second step leads from the best items by counts (B, I): at most q * m."""
    batch, size = counts.shape
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


def largest(counts: F32) -> F32:
    """(B,) the largest of these counts (B, N), 1 if that is 0: what other layers are multiplied with."""
    scale: F32 = np.maximum.reduce(counts, axis=1, initial=0)
    scale[scale <= 0] = 1
    return scale


def weights(
    users: UserRows,
    rows: I32,
    past: I32,
    scale: F32,
    settings: RankSettings,
    anonymous: Bools | None = None,
) -> tuple[F32, F32]:
    """What taste (B, D) and popularity (B,) weigh at this scale (B,)."""
    weight = np.float32(settings.popularity) * scale
    if not settings.popularity:
        weight = np.where(past.max(axis=1, initial=-1) < 0, np.float32(1), np.float32(0))
    wanted = _wanted(users, rows, settings)
    wanted *= scale[:, None]
    if anonymous is not None:
        wanted[anonymous] = 0
    return wanted, weight


def _wanted(users: UserRows, rows: I32, settings: RankSettings) -> F32:
    """Taste (B, D): its dot product with a sketch is beta * L1, since cosines are linear in the unit banks."""
    banks = users.bank.take(rows, 0)[:, :, : users.items.dim]
    length = np.sqrt(np.vecdot(banks, banks))
    np.maximum(length, _TINY, out=length)
    shares = settings.half_lives or (1 / banks.shape[1],) * banks.shape[1]
    weights = settings.taste * np.array(shares, np.float32) / length
    wanted: F32 = np.matmul(weights[:, None, :], banks)[:, 0]
    return wanted
