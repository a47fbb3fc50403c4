"""What one user's events tell about items: from which recent items a reader came to this one. NumPy alone.

A transition is keyed by the item reached and carries up to W items had before it, most recent first; the k-th
counts w * g**(k - 1) there. It names the source event (partition, offset), so that the item side can drop
what was sent twice.

A weight below 0 takes an earlier transition back. One of kind `undo` takes back pairs alone: the item before was taken
back, the item reached was not, and stays as popular as it is.

Bytes, version 1, little-endian: version u1 · kind i1 · source u2 · source_offset i8 · at_ms i8 · weight f4 ·
count u1, then `count` item hashes u8. The record's key is the item's name.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from models.errors import BadInput
from models.taste import actions
from models.taste.index import ItemIndex
from models.taste.readers.fold import Folded

I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
F32 = NDArray[np.float32]

VERSION = 1
CONTENT = (
    b"\x02"  # first byte of a record that is no transition: the item's content vector follows, as packed
)
_HEAD = np.dtype(
    [
        ("version", "u1"),
        ("kind", "i1"),
        ("source", "<u2"),
        ("source_offset", "<i8"),
        ("at_ms", "<i8"),
        ("weight", "<f4"),
        ("count", "u1"),
    ]
)


@dataclass(frozen=True, slots=True)
class Transitions:
    """Columns of m transitions."""

    items: I32  # (m,) the item reached, index in the worker's ItemIndex
    previous: I32  # (m, W) items had before, most recent first, without the item itself; -1 padded
    kinds: I8  # (m,)
    weights: F32  # (m,)
    at_ms: I64  # (m,)
    sources: I64  # (m,) partition of the source event
    source_offsets: I64  # (m,)


def transitions(
    folded: Folded, items: I32, kinds: I8, weights: F32, at_ms: I64, offsets: I64, source: int | I32
) -> Transitions:
    """Transitions of a folded batch (columns as given to `fold`, with a window): applied positive events with
    a weight above 0, impressions (no previous items; they count as seen), and those of them that were taken back:
    their kind, their time and minus their weight, with the items that the ring holds before them; and of what these had
    led to the pairs, taken back. `source`: their partition.
    """
    back = folded.undone
    if len(back.places):
        kinds, weights, at_ms = kinds.copy(), weights.copy(), at_ms.copy()
        kinds[back.places], weights[back.places] = back.kinds, -back.weights
        at_ms[back.places] = back.at_ms
    told = weights > 0
    if len(back.places):
        told[back.places] = back.weights > 0
    told &= actions.is_positive(kinds)
    shown = kinds == actions.IMPRESSION
    told |= shown
    chosen = (told & folded.applied & (items > 0)).nonzero()[0]
    targets = items[chosen]
    previous = folded.previous[chosen]
    previous[(previous == targets[:, None]) | (previous <= 0) | shown[chosen, None]] = -1
    sources = np.empty(len(items), np.int64)
    sources[:] = source
    found = Transitions(
        targets,
        previous,
        kinds[chosen],
        weights[chosen],
        at_ms[chosen],
        sources[chosen],
        offsets[chosen],
    )
    return _with_parted(found, chosen, folded, items, sources, offsets)


def _with_parted(
    found: Transitions, chosen: I64, folded: Folded, items: I32, sources: I64, offsets: I64
) -> Transitions:
    """And what takes pairs back, where its undo stands among the events `chosen`."""
    parted = folded.parted
    count = len(parted.places)
    if not count:
        return found
    stood = (parted.back[:, None] >> np.arange(found.previous.shape[1])) & 1
    previous = np.where(stood != 0, items[parted.places][:, None], np.int32(-1))
    order = np.argsort(np.concatenate([chosen, parted.places]), kind="stable")
    return Transitions(
        np.concatenate([found.items, parted.items])[order],
        np.concatenate([found.previous, previous])[order],
        np.concatenate([found.kinds, np.full(count, actions.UNDO, np.int8)])[order],
        np.concatenate([found.weights, -parted.weights])[order],
        np.concatenate([found.at_ms, parted.at_ms])[order],
        np.concatenate([found.sources, sources[parted.places]])[order],
        np.concatenate([found.source_offsets, offsets[parted.places]])[order],
    )


def named(found: Transitions, items: ItemIndex) -> Transitions:
    """Without pairs to be taken back that lead to an item whose name is not known: a state holds hashes, and right
    after a restart the item table may not have told the name yet. They stay: a transition is keyed by the name."""
    undos = found.kinds == actions.UNDO
    if not np.count_nonzero(undos):
        return found
    unnamed = [place for place in np.flatnonzero(undos).tolist() if items.names[found.items[place]] is None]
    if not unnamed:
        return found
    return Transitions(*(np.delete(getattr(found, one.name), unnamed, axis=0) for one in fields(Transitions)))


def encode(found: Transitions, items: ItemIndex) -> list[bytes]:
    """One record value a transition. The k-th previous item keeps its place: gaps travel as hash 0."""
    width = found.previous.shape[1]
    held = found.previous >= 0
    counts = np.maximum.reduce(held * np.arange(1, width + 1), axis=1, initial=0)  # the place of the last one
    heads = np.empty(len(found.items), _HEAD)
    heads["version"] = VERSION
    heads["kind"] = found.kinds
    heads["source"] = found.sources
    heads["source_offset"] = found.source_offsets
    heads["at_ms"] = found.at_ms
    heads["weight"] = found.weights
    heads["count"] = counts
    hashes = items.hashes[np.maximum(found.previous, 0)].astype("<u8", copy=False)
    all_heads, all_hashes, size = heads.tobytes(), hashes.tobytes(), _HEAD.itemsize
    return [
        all_heads[i * size : (i + 1) * size] + all_hashes[8 * width * i : 8 * (width * i + count)]
        for i, count in enumerate(heads["count"].tolist())
    ]


def decode(names: Sequence[str], values: Sequence[bytes], items: ItemIndex, window: int) -> Transitions:
    """Columns of records (key, value). Previous items beyond `window` are left out.

    Raises BadInput("transition_layout") for another version or a wrong length.
    """
    size = _HEAD.itemsize
    lengths = np.fromiter(map(len, values), np.int64, len(values))
    if len(values) and int(lengths.min()) < size:
        raise BadInput("transition_layout", "a transition is too short")
    heads = np.frombuffer(b"".join([value[:size] for value in values]), _HEAD)
    counts = heads["count"].astype(np.int64)
    if not ((heads["version"] == VERSION) & (lengths == size + 8 * counts)).all():
        raise BadInput("transition_layout", f"a transition is not of version {VERSION} or has a wrong length")
    hashes = np.frombuffer(b"".join([value[size:] for value in values]), "<u8")
    rank = np.repeat(np.arange(len(values)), counts)
    nth = np.arange(len(hashes)) - np.repeat(np.cumsum(counts) - counts, counts)
    inside = nth < window
    found = items.by_hash(hashes[inside].astype(np.uint64))
    previous = np.full((len(values), window), -1, np.int32)
    previous[rank[inside], nth[inside]] = np.where(found > 0, found, -1)
    return Transitions(
        items.lookup(names),
        previous,
        heads["kind"].astype(np.int8),
        heads["weight"].astype(np.float32),
        heads["at_ms"].astype(np.int64),
        heads["source"].astype(np.int64),
        heads["source_offset"].astype(np.int64),
    )
