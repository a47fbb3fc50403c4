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
from models.taste.best import top_k
from models.taste.counts import Followers
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
    followers: Followers
    wanted: F32  # (B, D) taste: its dot product with a sketch is the layer
    weight: F32  # (B,) of popularity
    past: I32  # (B, W) as in Lists
    past_kinds: I8
    past_at_ms: I64
    parts: Parts = field(default_factory=Parts)  # of further sources
    counts: F32 | None = None  # (B, I) L0; None where nothing was counted


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
    shape = (len(rows), len(table.items))
    counts = table.scratch.array("counts", shape, np.float32)
    scores = table.scratch.array("scores", shape, np.float32)
    past, kinds, at_ms = _past(users, rows, settings)
    if anonymous is not None:
        past[anonymous] = -1
    prepared = table.prepared(now_ms, settings.popularity_power)
    followers = _followers(table, past, settings, prepared)
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
    return Scored(scores, followers, wanted, weight, past, kinds, at_ms, given, counts)


def popular(table: ItemTable, rows: I32, now_ms: int, settings: RankSettings) -> Scored:
    """Scores of popularity alone: what a list falls back to when there is no time for more."""
    batch = len(rows)
    scores = table.scratch.array("scores", (batch, len(table.items)), np.float32)
    prepared = table.prepared(now_ms, settings.popularity_power)
    weight = np.full(batch, settings.popularity or 1, np.float32)
    np.multiply(weight[:, None], prepared.popularity, out=scores)
    past = np.full((batch, settings.window), -1, np.int32)
    followers = _followers(table, past, settings, prepared)
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
    by_past = scored.followers.by_past(items, table.scratch)
    layers = layers_of(table, scored, items, now_ms, settings)
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


def layers_of(table: ItemTable, scored: Scored, items: I32, now_ms: int, settings: RankSettings) -> F32:
    """What the scores of items (B, k), -1 padded, are made of: (B, k, 3 + S)."""
    layers = np.empty((*items.shape, len(LAYERS) + len(scored.parts.names)), np.float32)
    listed = np.maximum(items, 0)
    layers[..., 0] = 0 if scored.counts is None else np.take_along_axis(scored.counts, listed, 1)
    layers[..., 1] = np.matmul(table.sketches[listed], scored.wanted[:, :, None])[..., 0]
    popular = table.prepared(now_ms, settings.popularity_power).popularity
    layers[..., 2] = scored.weight[:, None] * popular[listed]
    layers[..., 3:] = scored.parts.of(items)
    layers[items < 0] = 0
    return layers


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
    _followers(table, past, settings, prepared).write_to(parts[0])
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


def _past(users: UserRows, rows: I32, settings: RankSettings) -> tuple[I32, I8, I64]:
    """The last W items (B, W), most recent first, -1 where none or not positive; their kinds and times."""
    past, kinds, at_ms = users.recent(rows, settings.window)
    return np.where(actions.is_positive(kinds) & (past > 0), past, np.int32(-1)), kinds, at_ms


def _followers(table: ItemTable, past: I32, settings: RankSettings, prepared: Prepared) -> Followers:
    """Of these past items (B, W), -1 none; of nobody's where counts are off."""
    if not settings.counts:
        past = np.full_like(past, -1)
    row = 1 + table.row_sums(np.maximum(past, 0)) * prepared.factor
    heads = settings.order_decay ** np.arange(past.shape[1]) / row**settings.row_power
    return Followers.of(table.followers, past, heads, prepared.column, table.scratch)


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
