"""What the catalogue says of items: author, time of publication, topics, whether it may be shown. NumPy alone.

Bounded like the item index that it shares: an item beyond the index's bound is not kept, nor an author or a topic
beyond theirs; those count as unknown.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.taste.index import UNKNOWN, ItemIndex, hash_of

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Bools = NDArray[np.bool_]

MAX_TOPICS = 64  # bits of a word


@dataclass(frozen=True, slots=True)
class Entry:
    """One item as its newest record describes it."""

    author: str | None
    published_ms: int  # 0 unknown
    topics: Sequence[str] = ()
    available: bool = True


class Catalogue:
    """Columns by item index.

    known (I,) an entry was read and stands; available (I,) False: may not be listed; author (I,) int32, -1 unknown;
    published_ms (I,) int64, 0 unknown; topics (I,) uint64, a bit a topic.
    """

    def __init__(self, items: ItemIndex, max_authors: int = 1_000_000) -> None:
        self.items = items
        self.beyond = 0  # authors and topics met beyond their bounds
        self._max_authors = max_authors
        self._authors: dict[str, int] = {}
        self._hashes: dict[int, int] = {}  # of authors' names
        self._topics: dict[str, int] = {}
        self.known: Bools = np.zeros(0, np.bool_)
        self.available: Bools = np.zeros(0, np.bool_)
        self.author: I32 = np.zeros(0, np.int32)
        self.published_ms: I64 = np.zeros(0, np.int64)
        self.topics: U64 = np.zeros(0, np.uint64)
        self._by_author: I64 | None = None
        self.cover()

    @property
    def empty(self) -> bool:
        """Whether nothing was ever read: lists then need not look here."""
        return not self._touched

    def __len__(self) -> int:
        """Items described."""
        return int(np.count_nonzero(self.known))

    @property
    def authors(self) -> int:
        """Authors known."""
        return len(self._authors)

    @property
    def topics_known(self) -> int:
        """Topics known; their bits are below this."""
        return len(self._topics)

    _touched = False

    def apply(self, names: Sequence[str], entries: Sequence[Entry | None]) -> None:
        """Take records in order; None takes an item out of the catalogue, and so out of lists."""
        newest = dict(zip(names, entries, strict=True))
        at = self.items.lookup(list(newest))
        self.cover()
        for index, entry in zip(at.tolist(), newest.values(), strict=True):
            if index == UNKNOWN:
                continue
            self.known[index] = entry is not None
            self.available[index] = entry is not None and entry.available
            self.author[index] = self._author(entry.author) if entry and entry.author else -1
            self.published_ms[index] = entry.published_ms if entry else 0
            self.topics[index] = self._bits(entry.topics) if entry else 0
        self._touched = self._touched or bool(newest)
        self._by_author = None

    def uploaded(self, item: int, author: str) -> None:
        """Who brought an item in of which the catalogue has no entry; an entry says it better."""
        self.cover()
        if item != UNKNOWN and not self.known[item]:
            self.author[item] = self._author(author)
            self._by_author = None

    def author_ids(self, names: Sequence[str]) -> I32:
        """Ids (N,) of authors by name, -1 where no item of theirs is known."""
        return np.array([self._authors.get(name, -1) for name in names], np.int32)

    def authors_of(self, hashes: U64) -> I32:
        """Ids (N,) of authors by the hash of their names, -1 where no item of theirs is known."""
        return np.array([self._hashes.get(one, -1) for one in hashes.tolist()], np.int32)

    @property
    def by_author(self) -> I64:
        """Items (I,) in the order of their authors, then of their own; kept until the catalogue changes."""
        if self._by_author is None:
            self._by_author = np.argsort(self.author, kind="stable")
        return self._by_author

    def mixtures(self, items: I32) -> F32:
        """Topics of items (...) as shares (..., T) that add up to 1, or to 0 where none is known; -1 is no item."""
        bits = np.where(items >= 0, self.topics[np.maximum(items, 0)], np.uint64(0))
        shares = ((bits[..., None] >> np.arange(self.topics_known, dtype=np.uint64)) & np.uint64(1)).astype(
            np.float32
        )
        shares /= np.maximum(shares.sum(axis=-1, keepdims=True), 1)
        return shares

    def cover(self) -> None:
        """Make room for every item of the index."""
        size, wanted = len(self.known), len(self.items)
        if wanted <= size:
            return
        more = max(wanted, 2 * size, 1024) - size
        self.known = np.concatenate([self.known, np.zeros(more, np.bool_)])
        self.available = np.concatenate([self.available, np.ones(more, np.bool_)])
        self.author = np.concatenate([self.author, np.full(more, -1, np.int32)])
        self.published_ms = np.concatenate([self.published_ms, np.zeros(more, np.int64)])
        self.topics = np.concatenate([self.topics, np.zeros(more, np.uint64)])
        self._by_author = None

    def bytes_used(self) -> int:
        """Bytes of the columns and, estimated, of the names."""
        columns = (self.known, self.available, self.author, self.published_ms, self.topics)
        return sum(column.nbytes for column in columns) + 250 * len(self._authors) + 150 * len(self._topics)

    def _author(self, name: str) -> int:
        found = self._authors.get(name)
        if found is None:
            if len(self._authors) >= self._max_authors:
                self.beyond += 1
                return -1
            found = self._authors[name] = self._hashes[hash_of(name)] = len(self._authors)
        return found

    def _bits(self, topics: Sequence[str]) -> int:
        bits = 0
        for topic in topics:
            bit = self._topics.get(topic)
            if bit is None:
                if len(self._topics) >= MAX_TOPICS:
                    self.beyond += 1
                    continue
                bit = self._topics[topic] = len(self._topics)
            bits |= 1 << bit
        return bits
