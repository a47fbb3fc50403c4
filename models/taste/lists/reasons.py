"""Lists and what each of their scores is made of. Compiled."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled, part
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
    items, scores = np.ascontiguousarray(items), np.ascontiguousarray(scores)
    layers, by_past = _parts(table, scored, items, now_ms, settings)
    if blended is not None:
        counted = layers[..., 0]
        changed = np.divide(blended[..., 0], counted, out=np.zeros_like(counted), where=counted > 0)
        by_past *= changed[..., None]
        layers = blended.copy()
    if factors is not None:
        layers *= factors[..., None]
        by_past *= factors[..., None]
    because, share = np.empty(items.shape, np.int64), np.empty(items.shape, np.float32)
    _strongest(by_past, items, scores, because, share)
    nothing = np.zeros(scores.shape, np.float32)
    readers, names = scored.readers, scored.parts.names
    past, kinds, at_ms = readers.past, readers.kinds, readers.at_ms
    return Lists(items, scores, layers, by_past, past, kinds, at_ms, because, share, nothing, nothing, names)


def layers_of(table: ItemTable, scored: Scored, items: I32, now_ms: int, settings: RankSettings) -> F32:
    """What the scores of items (B, k), -1 padded, are made of: (B, k, 3 + S)."""
    return _parts(table, scored, np.ascontiguousarray(items), now_ms, settings)[0]


def _parts(
    table: ItemTable, scored: Scored, items: I32, now_ms: int, settings: RankSettings
) -> tuple[F32, F32]:
    """Layers (B, k, 3 + S), and the first of them by past item (B, k, W)."""
    readers, names = scored.readers, scored.parts.names
    prepared = table.prepared(now_ms, settings.popularity_power)
    layers = np.empty((*items.shape, len(LAYERS) + len(names)), np.float32)
    by_past = np.empty((*items.shape, readers.past.shape[1]), np.float32)
    _explain(
        items, readers.past, readers.heads, table.followers.keys, table.followers.weights, prepared.column,
        readers.wanted, table.sketches, readers.weight, prepared.popularity, table.places, by_past, layers,
    )  # fmt: skip
    if names:
        layers[..., len(LAYERS) :] = scored.parts.of(items)
    return layers, by_past


@compiled(
    "void(int32[:, ::1], int32[:, ::1], float32[:, ::1], int32[:, ::1], float32[:, ::1], float32[::1], "
    "float32[:, ::1], float32[:, ::1], float32[::1], float32[::1], int32[::1], float32[:, :, ::1], float32[:, :, ::1])"
)
def _explain(
    items: I32, past: I32, heads: F32, keys: I32, weights: F32, column: F32,
    wanted: F32, sketches: F32, weight: F32, popularity: F32, places: I32, by_past: F32, layers: F32,
) -> None:  # fmt: skip
    """`places` (I,) are 0, before and after."""
    batch, k = items.shape
    for reader in range(batch):
        own, parts = items[reader], by_past[reader]
        parts[:] = 0
        for nth in range(k):
            if own[nth] >= 0:
                places[own[nth]] = nth + 1
        for place in range(past.shape[1]):
            head, had = heads[reader, place], past[reader, place]
            if head == 0:
                continue
            for slot in range(keys.shape[1]):
                key = keys[had, slot]
                if key >= 0 and places[key] > 0:
                    parts[places[key] - 1, place] = weights[had, slot] * head * column[key]
        for nth in range(k):
            item = own[nth]
            if item < 0:
                layers[reader, nth] = 0
                continue
            places[item] = 0
            counted = np.float32(0)
            for place in range(past.shape[1]):
                counted += parts[nth, place]
            layers[reader, nth, 0] = counted
            layers[reader, nth, 1] = _product(wanted[reader], sketches[item])
            layers[reader, nth, 2] = weight[reader] * popularity[item]


@part
def _product(one: F32, other: F32) -> np.float32:
    """Of vectors (D,)."""
    total = np.float32(0)
    for place in range(len(one)):
        total += one[place] * other[place]
    return total


@compiled("void(float32[:, :, ::1], int32[:, ::1], float32[:, ::1], int64[:, ::1], float32[:, ::1])")
def _strongest(by_past: F32, items: I32, scores: F32, because: I64, share: F32) -> None:
    """The past item (B, k) of the largest part of these (B, k, W), none of which is below 0, and its share of the
    score; -1 and 0 where there is none."""
    batch, k, window = by_past.shape
    for reader in range(batch):
        for nth in range(k):
            largest, which = np.float32(0), -1
            for place in range(window):
                if by_past[reader, nth, place] > largest:
                    largest, which = by_past[reader, nth, place], place
            because[reader, nth] = which
            told = items[reader, nth] >= 0 and scores[reader, nth] > 0
            share[reader, nth] = largest / scores[reader, nth] if told else np.float32(0)
