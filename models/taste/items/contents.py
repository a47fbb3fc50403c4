"""Content vectors of items, and for each item those most like it: what an item is known by before its first click.

A vector is kept in 8 bits a number, by the revision of the model that made it: vectors of two revisions are never
compared. `likes` of an item are the `keep` items of its revision with the largest cosine, at least `LEAST`; they are
exact whatever the order in which vectors came. Readers' states know nothing of all this: an item's likes stand in its
sketch beside its predecessors (`models.taste.items.table`), so that a reader who had one of them is near it. NumPy
alone.

Bytes of one vector, little-endian: version u1 · revision length u1 · author length u2 · scale f4 · revision · author,
both UTF-8 · int8 numbers.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.errors import BadInput
from models.taste.toplists import TopLists

F32 = NDArray[np.float32]
I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

VERSION = 1  # the first byte; 2 to 4 are of `models.taste.items.bars`
MAX_DIM = 1024
MAX_SPACES = 4  # revisions held at a time; the oldest goes
MAX_ITEMS = 100_000  # of one revision: a new vector is compared with all
LEAST = 0.25  # cosine of items that count as alike
_HEAD = struct.Struct("<BBHf")
_CHUNK = 512  # new vectors compared at once


@dataclass(frozen=True, slots=True)
class Content:
    """What an item is about, and who brought it in."""

    revision: str
    author: str | None
    numbers: I8  # (D,) in steps of `scale`
    scale: float

    @property
    def vector(self) -> F32:
        """(D,) at length 1."""
        found = self.numbers.astype(np.float32)
        unit: F32 = found / np.linalg.norm(found)
        return unit


def pack(vector: F32, revision: str, author: str | None = None) -> bytes:
    """Bytes of a vector (D,) of any length above 0. Raises BadInput("bad_vector")."""
    named, by = revision.encode(), (author or "").encode()
    largest = float(np.abs(vector).max(initial=0))
    if not 0 < len(vector) <= MAX_DIM or not 0 < largest < np.inf:  # NaN too
        raise BadInput("bad_vector", f"a content vector has 1 to {MAX_DIM} finite numbers, not all 0")
    if not 0 < len(named) < 256 or len(by) > 0xFFFF:
        raise BadInput("bad_vector", "the revision or author of a content vector is empty or too long")
    scale = largest / 127
    numbers = np.rint(vector.astype(np.float64) / scale).astype(np.int8)
    return _HEAD.pack(VERSION, len(named), len(by), scale) + named + by + numbers.tobytes()


def largest_bytes(author_bytes: int) -> int:
    """What a packed vector takes at most."""
    return _HEAD.size + 255 + author_bytes + MAX_DIM


def unpack(value: bytes) -> Content:
    """Raises BadInput("content_layout")."""
    try:
        version, revision_bytes, author_bytes, scale = _HEAD.unpack_from(value)
        at = _HEAD.size + revision_bytes
        numbers = np.frombuffer(value, np.int8, offset=at + author_bytes)
        revision = value[_HEAD.size : at].decode()
        author = value[at : at + author_bytes].decode()
    except (struct.error, ValueError) as error:
        raise BadInput("content_layout", "a content vector is cut off") from error
    if version != VERSION or not revision or not 0 < len(numbers) <= MAX_DIM or not numbers.any():
        raise BadInput("content_layout", f"a content vector is not of version {VERSION}, or empty")
    return Content(revision, author or None, numbers, scale)


@dataclass(slots=True)
class _Space:
    """Unit vectors of one revision, by row."""

    row_of: dict[int, int] = field(default_factory=dict)  # item -> row
    items: I32 = field(default_factory=lambda: np.full(64, -1, np.int32))  # by row, -1 free
    vectors: F32 = field(default_factory=lambda: np.zeros((0, 0), np.float32))


class Contents:
    """Which items are like which, fed by vectors. `likes.keys` and `likes.weights` (I, keep): items and cosines."""

    def __init__(self, keep: int = 50) -> None:
        self.likes = TopLists(keep, 0)
        self.beyond = 0  # vectors left out: too many items of a revision, or of another length than its first
        self._spaces: dict[str, _Space] = {}
        self._revision: dict[int, tuple[str, bytes]] = {}  # item -> its revision and bytes

    def __len__(self) -> int:
        """Items with a vector."""
        return len(self._revision)

    def bytes_used(self) -> int:
        """Bytes of vectors and likes, estimated for what is kept by item."""
        vectors = sum(space.vectors.nbytes + space.items.nbytes for space in self._spaces.values())
        packed = sum(len(value) + 300 for _, value in self._revision.values())
        return vectors + packed + self.likes.keys.nbytes + self.likes.weights.nbytes

    def describe(self, items: Sequence[int], values: Sequence[bytes]) -> I64:
        """Take items' vectors as packed, b"" for none. Returns the items whose likes have changed, ascending. Raises
        BadInput("content_layout"); nothing is then changed."""
        newest = dict(zip(items, values, strict=True))
        told = {item: unpack(value) for item, value in newest.items() if value and self._fresh(item, value)}
        lost = [
            item for item, value in newest.items() if item in self._revision and (item in told or not value)
        ]
        self.likes.reserve(max(newest, default=-1) + 1)
        changed = [self._forget(lost)] if lost else []
        by_revision: dict[str, list[int]] = {}
        for item, content in told.items():
            by_revision.setdefault(content.revision, []).append(item)
        for revision, some in by_revision.items():
            kept = [item for item in some if self._place(revision, item, told[item])]
            self._revision.update({item: (revision, newest[item]) for item in kept})
            parts = [kept[start : start + _CHUNK] for start in range(0, len(kept), _CHUNK)]
            changed += [self._compare(self._spaces[revision], part) for part in parts]
        return np.unique(np.concatenate(changed)) if changed else np.empty(0, np.int64)

    def author_of(self, item: int) -> str | None:
        """Who brought an item in, where its vector says so."""
        known = self._revision.get(item)
        return unpack(known[1]).author if known else None

    def _fresh(self, item: int, value: bytes) -> bool:
        known = self._revision.get(item)
        return known is None or known[1] != value

    def _forget(self, items: Sequence[int]) -> I64:
        """Take vectors away; the items that were like them."""
        for item in items:
            revision, _ = self._revision.pop(item)
            space = self._spaces[revision]
            row = space.row_of.pop(item)
            space.items[row] = -1
            space.vectors[row] = 0
        gone = np.array(items, np.int64)
        rows, slots = np.nonzero(np.isin(self.likes.keys, gone))
        self.likes.keys[rows, slots] = -1
        self.likes.weights[rows, slots] = 0
        self.likes.clear(gone)
        # what had been pushed out by them is looked for again
        missing = [row for row in np.unique(rows).tolist() if row in self._revision]
        for row in missing:
            self._compare(self._spaces[self._revision[row][0]], [row])
        return np.concatenate([gone, rows])

    def _place(self, revision: str, item: int, content: Content) -> bool:
        """Give a vector a row in its space; whether there was room."""
        space = self._spaces.get(revision)
        if space is None:
            while len(self._spaces) >= MAX_SPACES:
                oldest = next(iter(self._spaces))
                self._forget(list(self._spaces[oldest].row_of))
                del self._spaces[oldest]
            space = self._spaces[revision] = _Space()
            space.vectors = np.zeros((64, len(content.numbers)), np.float32)
        if len(space.row_of) >= MAX_ITEMS or space.vectors.shape[1] != len(content.numbers):
            self.beyond += 1
            return False
        free = np.flatnonzero(space.items < 0)
        if not len(free):
            size = len(space.items)
            space.items = np.concatenate([space.items, np.full(size, -1, np.int32)])
            space.vectors = np.concatenate([space.vectors, np.zeros_like(space.vectors)])
            free = np.array([size])
        row = int(free[0])
        space.row_of[item], space.items[row], space.vectors[row] = row, item, content.vector
        return True

    def _compare(self, space: _Space, new: Sequence[int]) -> I64:
        """Put the pairs of new items and all of the space into both items' likes, where they belong; the items whose
        likes changed."""
        others = space.items.astype(np.int64)  # -1 where free: the vector there is 0, and so is its cosine
        mine = np.array(new, np.int64)
        cosines = space.vectors[[space.row_of[item] for item in new]] @ space.vectors.T
        cosines[mine[:, None] == others] = -1
        self.likes.reserve(int(others.max(initial=-1)) + 1)
        lightest = self.likes.weights.min(axis=1)
        first, second = _best(cosines, self.likes.width)  # for the new ones, and for the others:
        at, theirs = np.nonzero(cosines >= np.maximum(lightest[others], LEAST))
        rows = np.concatenate([mine[first], others[theirs]])
        keys = np.concatenate([others[second], mine[at]])
        weights = np.concatenate([cosines[first, second], cosines[at, theirs]])
        pairs = np.unique(rows << 32 | keys, return_index=True)[1]  # two new ones meet twice
        pairs = pairs[weights[pairs] > lightest[rows[pairs]]]
        self.likes.put(rows[pairs], keys[pairs].astype(np.int32), weights[pairs])
        return np.unique(np.concatenate([rows[pairs], mine]))


def _best(cosines: F32, count: int) -> tuple[I64, I64]:
    """Rows and columns of the `count` largest of each row that count at all."""
    if cosines.shape[1] <= count:
        rows, columns = np.nonzero(cosines >= LEAST)
        return rows, columns
    best = np.argpartition(cosines, -count, axis=1)[:, -count:]
    rows, nth = np.nonzero(np.take_along_axis(cosines, best, 1) >= LEAST)
    return rows, best[rows, nth]
