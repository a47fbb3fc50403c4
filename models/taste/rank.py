"""Scores for a batch of users: counts, taste vectors and popularity blended; exactly the k best; what each is made of.
NumPy alone. What happens between scores and reasons is in `models.taste.pipeline`.

    L0(i)   = sum over the last W positive items j_k
              of lambda**(k-1) * C[j_k, i] / ((1 + row[j_k])**b * (1 + col[i])**a)
    L1(i)   = sum over half-lives h of beta_h * cos(bank_h, sketch_i)
    score   = L0 + m * (beta * L1 + p * popularity / max popularity),  m = the user's largest L0, 1 if that is 0

A second step along the counts (`walk`) finds what goes with what goes with the reader's items; weight q, at the scale
of m like the rest. Further sources (`models.taste.sources`) add their scores at the scale of m, too. A user without
history gets popular items. Every term is a sum over known parts, so shares and reasons are exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from models.taste import actions, filters, sources
from models.taste.sources import Parts, Weighted
from models.taste.table import ItemTable, Prepared
from models.taste.users import UserRows

F32 = NDArray[np.float32]
I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

LAYERS = ("counts", "taste", "popularity")
_WALK_FROM = 30  # best items by counts from which a second step goes
_CELLS = 1 << 19  # users x items ranked at once: 5 MB of scratch, about the second-level cache
_BLOCK = 16  # items whose maximum stands for them in the first selection


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
class Lists:
    """B lists of up to k items, best first; equal scores by item index. -1 pads a short list."""

    items: I32  # (B, k)
    scores: F32  # (B, k), 0 at padding
    layers: F32  # (B, k, 3 + S) the score's parts, as LAYERS and then `sources`; with `explored` they add up to it
    by_past: F32  # (B, k, W) the counts layer by past item; a repeated item's parts stand at its newest place
    past: I32  # (B, W) those past items, most recent first, -1 where none or not positive
    past_kinds: I8  # (B, W)
    past_at_ms: I64  # (B, W)
    because: I64  # (B, k) place in `past` of the strongest past item, -1 if counts gave nothing
    because_share: F32  # (B, k) its part of the score
    explored: F32  # (B, k) the whole score of an item that is listed to learn about it, else 0
    propensity: F32  # (B, k) the probability with which that item was drawn, else 0
    sources: tuple[str, ...] = ()  # S names


@dataclass(frozen=True, slots=True)
class Scored:
    """All scores of a batch and what they are made of. Valid until the table's next use: arrays lie in its scratch."""

    scores: F32  # (B, I)
    followers: "_Followers"
    wanted: F32  # (B, D) taste: its dot product with a sketch is the layer
    weight: F32  # (B,) of popularity
    past: I32  # (B, W) as in Lists
    past_kinds: I8
    past_at_ms: I64
    parts: Parts = field(default_factory=Parts)  # of further sources


def rank(
    table: ItemTable,
    users: UserRows,
    rows: I32,
    now_ms: int,
    k: int,
    settings: RankSettings,
    further: Sequence[Weighted] = (),
) -> Lists:
    """The k best for users by row (B,), without the later stages of `models.taste.pipeline`. `now_ms` is event time:
    popularity and counts are taken at that moment.

    `users` and `table` share one ItemIndex. Items seen (unless `repeat`), hidden or without a name are never
    listed. Large batches are ranked in parts, so that working memory does not grow with them.
    """
    table.cover()
    most = batch_size(table)
    return joined(
        [
            _rank(table, users, rows[i : i + most], now_ms, k, settings, further)
            for i in range(0, len(rows), most)
        ]
        or [_rank(table, users, rows, now_ms, k, settings, further)]
    )


def batch_size(table: ItemTable) -> int:
    """Readers that are scored at once."""
    return max(1, _CELLS // len(table.items))


def joined(parts: Sequence[Lists]) -> Lists:
    """Lists of a batch that was ranked in parts."""
    if len(parts) == 1:
        return parts[0]
    arrays = [f.name for f in fields(Lists) if f.name != "sources"]
    whole = {name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays}
    return Lists(**whole, sources=parts[0].sources)


def _rank(
    table: ItemTable,
    users: UserRows,
    rows: I32,
    now_ms: int,
    k: int,
    settings: RankSettings,
    further: Sequence[Weighted],
) -> Lists:
    scored = score(table, users, rows, now_ms, settings, further=further)
    items, kinds, _ = users.recent(rows, users.ring)
    barred = table.prepared(now_ms, settings.popularity_power).barred
    hidden, _ = users.hidden.pairs(rows)
    filters.mask(scored.scores, barred, (filters.had(items, kinds, settings.repeat), hidden))
    return explain(table, scored, *top_k(scored.scores, k), now_ms, settings)


def score(
    table: ItemTable,
    users: UserRows,
    rows: I32,
    now_ms: int,
    settings: RankSettings,
    anonymous: Bools | None = None,
    further: Sequence[Weighted] = (),
) -> Scored:
    """All scores (B, I), no filter applied. For readers who are `anonymous` (B,) nothing of theirs is looked at: they
    get popular items. `further` sources are asked as well. `table.cover()` comes first."""
    size = len(table.items)
    scratch = table.scratch(len(rows) * size)
    counts, scores = scratch[0].reshape(-1, size), scratch[1].reshape(-1, size)
    past, kinds, at_ms = _past(users, rows, settings)
    if anonymous is not None:
        past[anonymous] = -1
    prepared = table.prepared(now_ms, settings.popularity_power)
    followers = _Followers.of(table, past, settings, prepared)
    followers.write_to(counts)
    scale = _scale(counts)
    wanted, weight = _weights(users, rows, past, scale, settings)
    if anonymous is not None:
        wanted[anonymous] = 0
    np.matmul(np.concatenate([wanted, weight[:, None]], axis=1), prepared.blend, out=scores)
    scores += counts
    given = sources.parts(further, users, rows, now_ms, scale, anonymous)
    if settings.walk:
        given = given.and_one("walk", _walk(table, counts, scale, settings, prepared))
    for part in given.scores:
        scores += part
    return Scored(scores, followers, wanted, weight, past, kinds, at_ms, given)


def popular(table: ItemTable, rows: I32, now_ms: int, settings: RankSettings) -> Scored:
    """Scores of popularity alone: what a list falls back to when there is no time for more."""
    size, batch = len(table.items), len(rows)
    scores = table.scratch(batch * size)[1].reshape(-1, size)
    prepared = table.prepared(now_ms, settings.popularity_power)
    weight = np.full(batch, settings.popularity or 1, np.float32)
    np.multiply(weight[:, None], prepared.popularity, out=scores)
    past = np.full((batch, settings.window), -1, np.int32)
    followers = _Followers.of(table, past, settings, prepared)
    wanted = np.zeros((batch, table.items.dim), np.float32)
    kinds, at_ms = np.zeros(past.shape, np.int8), np.zeros(past.shape, np.int64)
    return Scored(scores, followers, wanted, weight, past, kinds, at_ms)


def explain(
    table: ItemTable,
    scored: Scored,
    items: I32,
    scores: F32,
    now_ms: int,
    settings: RankSettings,
    factors: F32 | None = None,
    blended: F32 | None = None,
) -> Lists:
    """Lists of these items (B, k), -1 padded, with their scores and what each is made of. `factors` (B, k) is what
    later stages made of the parts: they scale all alike, so that shares stay exact. `blended` (B, k, 3 + S) is what a
    learnt blend made of the parts, in their order."""
    by_past, layers = layers_of(table, scored, items, now_ms, settings)
    if blended is not None:
        counted = layers[..., 0]
        changed = np.divide(blended[..., 0], counted, out=np.zeros_like(counted), where=counted > 0)
        by_past *= changed[..., None]
        layers = blended.copy()
    if factors is not None:
        layers *= factors[..., None]
        by_past *= factors[..., None]
    held = items >= 0
    because = by_past.argmax(axis=2) if settings.window else np.zeros(items.shape, np.int64)
    strongest = np.take_along_axis(by_past, because[..., None], 2)[..., 0] if settings.window else scores * 0
    share = np.divide(strongest, scores, out=np.zeros_like(scores), where=held & (scores > 0))
    because[strongest <= 0] = -1
    nothing = np.zeros_like(scores)
    past, kinds, at_ms = scored.past, scored.past_kinds, scored.past_at_ms
    names = scored.parts.names
    return Lists(items, scores, layers, by_past, past, kinds, at_ms, because, share, nothing, nothing, names)


def layers_of(
    table: ItemTable, scored: Scored, items: I32, now_ms: int, settings: RankSettings
) -> tuple[F32, F32]:
    """What the scores of items (B, k), -1 padded, are made of: counts by past item (B, k, W), all by layer
    (B, k, 3 + S)."""
    where = table.scratch(scored.scores.size)[2].reshape(scored.scores.shape)
    by_past = scored.followers.by_past(items, where)
    layers = np.empty((*items.shape, len(LAYERS) + len(scored.parts.names)), np.float32)
    listed = np.maximum(items, 0)
    layers[..., 0] = by_past.sum(axis=2)
    layers[..., 1] = np.matmul(table.sketches[listed], scored.wanted[:, :, None])[..., 0]
    popular = table.prepared(now_ms, settings.popularity_power).popularity
    layers[..., 2] = scored.weight[:, None] * popular[listed]
    layers[..., 3:] = scored.parts.of(items)
    layers[items < 0] = 0
    return by_past, layers


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
    past, _, _ = _past(users, rows, settings)
    prepared = table.prepared(now_ms, settings.popularity_power)
    parts = np.empty((len(LAYERS), len(rows), len(table.items)), np.float32)
    _Followers.of(table, past, settings, prepared).write_to(parts[0])
    scale = _scale(parts[0])
    wanted, weight = _weights(users, rows, past, scale, settings)
    np.matmul(wanted, prepared.blend[:-1], out=parts[1])
    np.multiply(weight[:, None], prepared.popularity, out=parts[2])
    given = sources.parts(further, users, rows, now_ms, scale)
    if settings.walk:
        given = given.and_one("walk", _walk(table, parts[0], scale, settings, prepared))
    if given.scores:
        parts = np.concatenate([parts, np.stack(given.scores)])
    listable = np.ones(parts.shape[2], np.bool_)
    listable[prepared.barred] = False
    return parts, listable


def top_k(scores: F32, k: int) -> tuple[I32, F32]:
    """The k best columns of each row (B, I) and their scores; -inf is never taken; ties go to the lower
    index.

    Exact: the k-th best of the maxima of disjoint blocks is at most the k-th best score, so only what reaches
    it is sorted; with random scores that is little more than k items.
    """
    batch, size = scores.shape
    blocks = size // _BLOCK
    least = np.full(batch, np.finfo(np.float32).min)
    if blocks > k > 0:
        maxima = scores[:, : blocks * _BLOCK].reshape(batch, _BLOCK, blocks).max(axis=1)
        least = np.maximum(least, np.partition(maxima, blocks - k, axis=1)[:, blocks - k])
    found = np.flatnonzero(scores >= least[:, None])  # row by row, lower index first
    user = found // size
    values = scores.reshape(-1)[found]
    order = np.lexsort((-values, user))  # stable
    user, found, values = user[order], found[order], values[order]
    counts = np.bincount(user, minlength=batch)
    nth = np.arange(len(user)) - np.repeat(np.cumsum(counts) - counts, counts)
    first = nth < k
    items = np.full((batch, k), -1, np.int32)
    best = np.zeros((batch, k), np.float32)
    items[user[first], nth[first]] = found[first] % size
    best[user[first], nth[first]] = values[first]
    return items, best


@dataclass(frozen=True, slots=True)
class _Followers:
    """All (user, past item, follower) parts of L0, flat."""

    user: I64  # (S,) one entry a user and past item
    place: I64  # (S,) the newest place of that past item
    source: I64  # (E,) index into the two above
    cell: I64  # (E,) user * I + follower
    part: F32  # (E,)
    window: int

    @classmethod
    def of(cls, table: ItemTable, past: I32, settings: RankSettings, prepared: Prepared) -> "_Followers":
        if settings.counts:
            user, place = np.nonzero(past > 0)
        else:
            user = place = np.empty(0, np.int64)
        had = past[user, place]
        newest = (past[:, :, None] == past[:, None, :]).argmax(axis=2)
        row = 1 + table.row_sums(had) * prepared.factor
        head = settings.order_decay**place / row**settings.row_power
        keys = table.followers.keys[had].reshape(-1)
        held = np.flatnonzero(keys >= 0)
        source = held // table.followers.width
        item = keys[held]
        part = table.followers.weights[had].reshape(-1)[held] * prepared.column[item]
        part *= head.astype(np.float32)[source]
        cell = (user * len(prepared.column))[source] + item
        return cls(user, newest[user, place], source, cell, part, past.shape[1])

    def write_to(self, counts: F32) -> None:
        """Set `counts` (B, I) to L0."""
        counts.reshape(-1)[:] = np.bincount(self.cell, self.part, counts.size)

    def by_past(self, items: I32, where: NDArray[np.int16]) -> F32:
        """L0 of listed items (B, k) by past item: (B, k, W). `where` (B, I) is overwritten."""
        batch, k = items.shape
        where.fill(-1)
        user, nth = np.nonzero(items >= 0)
        where[user, items[user, nth]] = nth
        listed = where.reshape(-1)[self.cell]
        hits = np.flatnonzero(listed >= 0)
        source = self.source[hits]
        at = (self.user[source] * k + listed[hits]) * self.window + self.place[source]
        summed = np.bincount(at, self.part[hits], batch * k * self.window)
        return summed.astype(np.float32).reshape(batch, k, self.window)


def _past(users: UserRows, rows: I32, settings: RankSettings) -> tuple[I32, I8, I64]:
    """The last W items (B, W), most recent first, -1 where none or not positive; their kinds and times."""
    past, kinds, at_ms = users.recent(rows, settings.window)
    return np.where(actions.is_positive(kinds) & (past > 0), past, np.int32(-1)), kinds, at_ms


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


def _scale(counts: F32) -> F32:
    """(B,) the largest of these counts (B, I), 1 if that is 0: what other layers are multiplied with."""
    scale: F32 = counts.max(axis=1, initial=0)
    scale[scale <= 0] = 1
    return scale


def _weights(users: UserRows, rows: I32, past: I32, scale: F32, settings: RankSettings) -> tuple[F32, F32]:
    """What taste (B, D) and popularity (B,) weigh at this scale (B,)."""
    weight = np.float32(settings.popularity) * scale
    if not settings.popularity:
        weight = np.where(past.max(axis=1, initial=-1) < 0, np.float32(1), np.float32(0))
    return _wanted(users, rows, settings) * scale[:, None], weight


def _wanted(users: UserRows, rows: I32, settings: RankSettings) -> F32:
    """Taste (B, D): its dot product with a sketch is beta * L1, since cosines are linear in the unit banks."""
    banks = users.bank[rows][:, :, : users.items.dim]
    length = np.sqrt((banks * banks).sum(axis=2, keepdims=True))
    shares = settings.half_lives or (1 / banks.shape[1],) * banks.shape[1]
    weights = (
        settings.taste * np.array(shares, np.float32)[None, :, None] / np.maximum(length, np.float32(1e-30))
    )
    wanted: F32 = (banks * weights).sum(axis=1, dtype=np.float32)
    return wanted
