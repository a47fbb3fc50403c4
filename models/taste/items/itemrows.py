"""Bytes of one item-table row: what every worker follows of every item, and the item side's own changelog.
Version 3.

    version u1 · sources u2 · fence i8 · ref i8 · newest_at_ms i8 · popularity f8 · total f8 · impressions f8
    · count u2 · name length u2 · content length u2 · half-life u8 in ms, 0 infinite, then marks i8[sources],
    predecessors `count` times (hash u8 · weight f4), heaviest first, bars and content vector
    (`models.taste.items.bars`), the name in UTF-8.

Little-endian, no padding. Sums are in the frame of their half-life, so a row of another one is refused, never misread.
Version 1 had no content and its three sums as f4; it is read as if there were none. Versions 1 and 2 had no half-life:
it was 30 days.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import BadInput
from models.taste.index import ItemIndex

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

VERSION = 3
DAYS_30_MS = 30 * 86_400_000
_HEAD = np.dtype(
    [
        ("version", "u1"),
        ("sources", "<u2"),
        ("fence", "<i8"),
        ("ref", "<i8"),
        ("newest_at_ms", "<i8"),
        ("popularity", "<f8"),
        ("total", "<f8"),
        ("impressions", "<f8"),
        ("count", "<u2"),
        ("name_bytes", "<u2"),
        ("content_bytes", "<u2"),
        ("half_life_ms", "<u8"),
    ]
)
_FIRST, _SECOND = 1, 2
_SECOND_HEAD = np.dtype([(name, _HEAD[name]) for name in _HEAD.names or () if name != "half_life_ms"])
_FIRST_HEAD = np.dtype(
    [
        (name, "<f4" if kind == np.dtype("<f8") else kind)
        for name, kind in ((name, _HEAD[name]) for name in _HEAD.names or ())
        if name not in ("content_bytes", "half_life_ms")
    ]
)
_PAIR = np.dtype([("hash", "<u8"), ("weight", "<f4")])
_FIXED = ("fence", "ref", "newest_at_ms", "popularity", "total", "impressions")


@dataclass(frozen=True, slots=True)
class ItemRecords:
    """Columns of R item-table rows; P sources, N predecessors."""

    names: list[str]
    fence: I64  # (R,)
    marks: I64  # (R, P)
    ref: I64  # (R,) frame of all weights, in half-lives; -1 before the first event
    newest_at_ms: I64  # (R,)
    popularity: F64  # (R,)
    total: F64  # (R,) sum over all predecessors, kept or not
    impressions: F64  # (R,)
    predecessors: I32  # (R, N) item indices, -1 padded
    weights: F32  # (R, N) heaviest first
    contents: list[bytes]  # R, as packed; empty where none is known


def fence_of(value: bytes) -> int:
    """The fence of one encoded row; below every fence where the value is too short to have one."""
    return int.from_bytes(value[3:11], "little", signed=True) if len(value) >= 11 else -(1 << 63)


def largest_bytes(keep: int, sources: int, name_bytes: int, content_bytes: int) -> int:
    """What a row takes at most."""
    return _HEAD.itemsize + 8 * sources + _PAIR.itemsize * keep + content_bytes + name_bytes


def encode(records: ItemRecords, items: ItemIndex, half_life_ms: int) -> list[bytes]:
    """One value a row; the half-life is that of its sums, 0 for infinite."""
    names = [name.encode() for name in records.names]
    heads = np.empty(len(names), _HEAD)
    heads["version"] = VERSION
    heads["sources"] = records.marks.shape[1]
    heads["half_life_ms"] = half_life_ms
    for name in _FIXED:
        heads[name] = getattr(records, name)
    counts = (records.predecessors >= 0).sum(axis=1)
    heads["count"] = counts
    heads["name_bytes"] = [len(name) for name in names]
    heads["content_bytes"] = [len(content) for content in records.contents]
    pairs = np.empty(records.predecessors.shape, _PAIR)
    pairs["hash"] = items.hashes[np.maximum(records.predecessors, 0)]
    pairs["weight"] = records.weights
    marks = records.marks.astype("<i8", copy=False)
    return [
        heads[i].tobytes() + marks[i].tobytes() + pairs[i, :count].tobytes() + records.contents[i] + names[i]
        for i, count in enumerate(counts.tolist())
    ]


def decode(
    values: Sequence[bytes], items: ItemIndex, keep: int, half_life_ms: int, sources: int | None = None
) -> ItemRecords:
    """Columns of R rows of this half-life, with at most `keep` predecessors. Raises BadInput("item_layout").

    `sources` is the number of source partitions expected; None takes none of the marks (P = 0).
    """
    size = _HEAD.itemsize
    values = [_upgraded(value) if value[:1] in _OLDER else value for value in values]
    lengths = np.fromiter(map(len, values), np.int64, len(values))
    if len(values) and int(lengths.min()) < size:
        raise BadInput("item_layout", "an item-table row is too short")
    heads = np.frombuffer(b"".join([value[:size] for value in values]), _HEAD)
    counts = heads["count"].astype(np.int64)
    pairs_from = size + 8 * heads["sources"].astype(np.int64)
    contents_from = pairs_from + _PAIR.itemsize * counts
    names_from = contents_from + heads["content_bytes"]
    if not ((heads["version"] == VERSION) & (lengths == names_from + heads["name_bytes"])).all():
        raise BadInput("item_layout", f"an item-table row is not of version {VERSION} or has a wrong length")
    if sources is not None and not (heads["sources"] == sources).all():
        raise BadInput(
            "item_layout", f"an item-table row was made of another number of clicks partitions than {sources}"
        )
    others = heads["half_life_ms"][heads["half_life_ms"] != half_life_ms]
    if len(others):
        raise BadInput(
            "item_layout",
            f"an item-table row was made with a half-life of {others[0] / 1000:g} s, not {half_life_ms / 1000:g} s "
            "(0: infinite): change taste.item_half_life_s only together with a new kafka.topic_prefix, or replay",
        )
    spans = list(zip(values, pairs_from.tolist(), contents_from.tolist(), strict=True))
    pairs = np.frombuffer(b"".join([value[start:stop] for value, start, stop in spans]), _PAIR)
    marks = np.frombuffer(
        b"".join([value[size:start] for value, start, _ in spans]) if sources else b"", "<i8"
    )
    rank = np.repeat(np.arange(len(values)), counts)
    nth = np.arange(len(pairs)) - np.repeat(np.cumsum(counts) - counts, counts)
    inside = nth < keep
    predecessors = np.full((len(values), keep), -1, np.int32)
    weights = np.zeros((len(values), keep), np.float32)
    predecessors[rank[inside], nth[inside]] = items.by_hash(pairs["hash"][inside].astype(np.uint64))
    weights[rank[inside], nth[inside]] = pairs["weight"][inside]
    return ItemRecords(
        names=[value[start:].decode() for value, start in zip(values, names_from.tolist(), strict=True)],
        contents=[
            value[start:stop] for (value, _, start), stop in zip(spans, names_from.tolist(), strict=True)
        ],
        marks=marks.astype(np.int64).reshape(len(values), sources or 0),
        predecessors=predecessors,
        weights=weights,
        fence=heads["fence"].astype(np.int64),
        ref=heads["ref"].astype(np.int64),
        newest_at_ms=heads["newest_at_ms"].astype(np.int64),
        popularity=heads["popularity"].astype(np.float64),
        total=heads["total"].astype(np.float64),
        impressions=heads["impressions"].astype(np.float64),
    )


_OLDER = {bytes([_FIRST]): _FIRST_HEAD, bytes([_SECOND]): _SECOND_HEAD}


def _upgraded(value: bytes) -> bytes:
    """A row of an older version as one of this; one that is too short stays as it is."""
    form = _OLDER[value[:1]]
    size = form.itemsize
    if len(value) < size:
        return value
    old, new = np.frombuffer(value[:size], form)[0], np.zeros(1, _HEAD)
    for name in form.names or ():
        new[name] = old[name]
    new["version"], new["half_life_ms"] = VERSION, DAYS_30_MS
    return new.tobytes() + value[size:]
