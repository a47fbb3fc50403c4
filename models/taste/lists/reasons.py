"""Lists and what each of their scores is made of. NumPy alone."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from models.taste.items.table import ItemTable
from models.taste.lists.rank import LAYERS, RankSettings, Scored

F32 = NDArray[np.float32]
I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


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

    def some(self, places: I64) -> "Lists":
        """Those at places (N,)."""
        found = {name: getattr(self, name)[places] for name in _ARRAYS}
        return Lists(**found, sources=self.sources)


_ARRAYS = [one.name for one in fields(Lists) if one.name != "sources"]


def joined(parts: Sequence[Lists]) -> Lists:
    """Lists of a batch that was ranked in parts."""
    if len(parts) == 1:
        return parts[0]
    whole = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS}
    return Lists(**whole, sources=parts[0].sources)


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
    by_past = scored.readers.followers.by_past(items, table.scratch)
    layers = layers_of(table, scored, items, now_ms, settings, by_past)
    if blended is not None:
        counted = layers[..., 0]
        changed = np.divide(blended[..., 0], counted, out=np.zeros_like(counted), where=counted > 0)
        by_past *= changed[..., None]
        layers = blended.copy()
    if factors is not None:
        layers *= factors[..., None]
        by_past *= factors[..., None]
    because, strongest = _strongest(by_past)
    nothing = np.zeros(scores.shape, np.float32)
    share = np.divide(strongest, scores, out=nothing.copy(), where=(items >= 0) & (scores > 0))
    readers, names = scored.readers, scored.parts.names
    past, kinds, at_ms = readers.past, readers.kinds, readers.at_ms
    return Lists(items, scores, layers, by_past, past, kinds, at_ms, because, share, nothing, nothing, names)


def _strongest(by_past: F32) -> tuple[I64, F32]:
    """The past item (B, k) of the largest part of these (B, k, W), none of which is below 0, and that part; -1 and 0
    where there is none."""
    window = by_past.shape[2]
    if not window:
        return np.full(by_past.shape[:2], -1), np.zeros(by_past.shape[:2], np.float32)
    because = by_past.argmax(axis=2)
    at = because.reshape(-1) + np.arange(0, by_past.size, window)  # a maximum over so short an axis is slower
    strongest: F32 = by_past.reshape(-1)[at].reshape(because.shape)
    because[strongest <= 0] = -1
    return because, strongest


def layers_of(
    table: ItemTable,
    scored: Scored,
    items: I32,
    now_ms: int,
    settings: RankSettings,
    by_past: F32 | None = None,
) -> F32:
    """What the scores of items (B, k), -1 padded, are made of: (B, k, 3 + S). `by_past` (B, k, W) are their counts by
    past item, where somebody has them."""
    layers = np.empty((*items.shape, len(LAYERS) + len(scored.parts.names)), np.float32)
    listed = np.maximum(items, 0)
    if by_past is None and scored.counts is not None:
        layers[..., 0] = np.take_along_axis(scored.counts, listed, 1)
    else:
        parts = scored.readers.followers.by_past(items, table.scratch) if by_past is None else by_past
        layers[..., 0] = np.matmul(parts, np.ones(parts.shape[2], np.float32))  # a sum, five times as fast
    shape = (*items.shape, table.vectors.shape[1])
    sketches = table.scratch.take("listed", table.vectors, listed, shape)[..., :-1]
    layers[..., 1] = np.matmul(sketches, scored.wanted[:, :, None])[..., 0]
    popular = table.prepared(now_ms, settings.popularity_power).popularity
    np.multiply(scored.weight[:, None], popular[listed], out=layers[..., 2])
    if scored.parts.names:
        layers[..., len(LAYERS) :] = scored.parts.of(items)
    none = items < 0
    if np.count_nonzero(none):
        layers[none] = 0
    return layers
