"""Readers' tastes as columns: decayed sums of item codes, a ring of recent events, a fence, the last ids.

A user's state is a function of that user's own events in offset order, to the last bit: it does not depend on
how they were cut into batches nor on other users (theory and proof in `models.taste.decay`, sums in
`models.taste.bank`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import BadInput
from models.taste import actions, columns, decay, layout, recent, undo
from models.taste.bank import Bank
from models.taste.fences import standing
from models.taste.hidden import Hidden, Kept
from models.taste.items import UNKNOWN, ItemIndex
from models.taste.runs import Run, latest, repeats

F32 = NDArray[np.float32]
I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Bools = NDArray[np.bool_]

NO_AUTHORS: Mapping[int, int] = MappingProxyType({})
NOTHING: Bools = np.empty(0, np.bool_)
HALF_LIVES_S = (60.0, 3600.0, 86400.0, 30 * 86400.0)
_CHUNK = 4096  # events folded at once: bounds the working memory (about 5 MB), and the cut changes no bit


@dataclass(frozen=True, slots=True)
class Folded:
    """What a fold did. n: events given, t: rows touched (those with an applied event)."""

    rows: I32  # (t,) ascending
    last: I64  # (t,) index of the row's last applied event
    applied: Bools  # (n,) False: at or below the user's fence, changed nothing
    row_of: I32  # (n,)
    duplicates: int  # events beyond the fence whose id is among the reader's last ones: changed nothing
    previous: (
        I32  # (n, W) items before each event (before the one that an undo took back), most recent first, -1
    )
    # padded; W = 0 unless asked
    undone: undo.Undone = undo.NOTHING
    in_vain: int = 0  # undos that found nothing to take back
    parted: undo.Parted = undo.UNPARTED
    shown_again: int = 0  # undos that took no event back, and lifted what one had hidden
    fell_out: int = 0  # items and authors that are hidden no longer, since their reader hid too many others


class UserRows:
    """Columns by row; a row belongs to one user of one partition until `forget` or `drop`. Not thread-safe.

    All partitions of a worker share the columns, so that a batch over many partitions is one fold; which
    users a partition has is known by name, and a partition goes as a whole.

    fence (U,) int64 last applied source offset or -1; newest_at_ms (U,) int64; refs (U, H) int64 newest n or
    -1; bank (U, H, D + 2) float32; recent_ids (U, KEPT) uint64, slot = number accepted mod KEPT; accepted (U,);
    ring_items, ring_kinds, ring_at_ms, ring_sizes (U, R), slot = number pushed mod R; pushed (U,).
    """

    def __init__(
        self,
        items: ItemIndex,
        half_lives_s: Sequence[float] = HALF_LIVES_S,
        ring: int = 64,
    ) -> None:
        """`half_lives_s` may hold math.inf (nothing is forgotten). Raises ValueError on one under 1 ms."""
        self.items = items
        self.half_lives_ms = decay.whole_ms(half_lives_s)
        self._half_lives_ms = np.array(self.half_lives_ms, np.int64)
        self.ring = ring
        self.layout = layout.StateLayout(items.dim, self.half_lives_ms, ring)
        self.hidden = Hidden()
        self.freed: list[Callable[[list[int]], None]] = [
            self.hidden.forget
        ]  # called with rows that lose their reader
        self.clear()

    def clear(self) -> None:
        """Forget everybody; memory is given back."""
        self.hidden.clear()
        h, r, size = len(self.half_lives_ms), self.ring, 64
        self._index: dict[int, dict[str, int]] = {}
        self.names: list[str] = []  # by row; empty where the row is free
        self.partition_of: I32 = np.full(64, -1, np.int32)
        self._free: list[int] = []
        self.fence: I64 = np.full(size, -1, np.int64)
        self.newest_at_ms: I64 = np.zeros(size, np.int64)
        self.refs: I64 = np.full((size, h), -1, np.int64)
        self.bank: F32 = np.zeros((size, h, self.items.dim + 2), np.float32)
        self.accepted: I64 = np.zeros(size, np.int64)
        self.recent_ids: U64 = np.zeros((size, recent.KEPT), np.uint64)
        self.pushed: I64 = np.zeros(size, np.int64)
        self.ring_items: I32 = np.zeros((size, r), np.int32)
        self.ring_kinds: I8 = np.zeros((size, r), np.int8)
        self.ring_at_ms: I64 = np.zeros((size, r), np.int64)
        self.ring_sizes: NDArray[np.uint16] = np.zeros((size, r), np.uint16)  # of weights: `actions.sizes_of`

    def __len__(self) -> int:
        return sum(map(len, self._index.values()))

    def users(self, partition: int = 0) -> list[str]:
        """Names of a partition's users, in no particular order."""
        return list(self._index.get(partition, ()))

    def rows_of(self, users: Sequence[str], partition: int = 0) -> I32:
        """Rows (N,) int32; users not yet known to the partition get an empty row."""
        index = self._index.setdefault(partition, {})
        try:
            return np.fromiter(map(index.__getitem__, users), np.int32, len(users))
        except KeyError:
            if index.keys().isdisjoint(users) and len(set(users)) == len(users):  # as in a recovery
                return self._add_all(users, index, partition)
            found = np.fromiter(map(index.get, users, repeat(-1)), np.int32, len(users))
            missing = np.flatnonzero(found < 0)
            wanted = [users[i] for i in missing.tolist()]
            self._add_all(list(dict.fromkeys(wanted)), index, partition)
            found[missing] = np.fromiter(map(index.__getitem__, wanted), np.int32, len(wanted))
            return found

    def find(self, user: str, partition: int = 0) -> int | None:
        """The row of a user, if there is one: looking makes none."""
        return self._index.get(partition, {}).get(user)

    def strangers(self, users: Sequence[str], partition: int = 0) -> set[str]:
        """Those of the users who have no row in the partition."""
        return set(users).difference(self._index.get(partition, ()))

    def fence_of(self, user: str, partition: int = 0) -> int:
        """The user's fence; -1 where there is no row. Gives nobody a row."""
        row = self._index.get(partition, {}).get(user)
        return -1 if row is None else int(self.fence[row])

    def forget(self, user: str, partition: int = 0) -> bool:
        """Erase one user; whether there was one. The row is reused."""
        row = self._index.get(partition, {}).pop(user, None)
        if row is None:
            return False
        self._free_rows([row])
        return True

    def drop(self, partition: int) -> None:
        """Erase all users of a partition; their rows are reused."""
        self._free_rows(list(self._index.pop(partition, {}).values()))

    def _free_rows(self, rows: list[int]) -> None:
        for row in rows:
            self.names[row] = ""
        for name, empty in _COLUMNS.items():
            self.__dict__[name][rows] = empty
        for wipe in self.freed:
            wipe(rows)
        self._free += rows

    def bytes_used(self) -> int:
        """Bytes of the columns and, estimated, of the names and their index."""
        arrays: int = sum(self.__dict__[name].nbytes for name in _COLUMNS)
        return arrays + self.hidden.bytes_used() + 190 * len(self)

    def fold(
        self,
        users: Sequence[str],
        items: I32,
        kinds: I8,
        weights: F32,
        at_ms: I64,
        offsets: I64,
        window: int = 0,
        ids: U64 | None = None,
        authors: Mapping[int, int] = NO_AUTHORS,
    ) -> Folded:
        """Apply n events of the users of partition 0, by name: see `fold_rows`."""
        rows = self.rows_of(users)
        return self.fold_rows(rows, items, kinds, weights, at_ms, offsets, window, ids, authors)

    def fold_rows(
        self,
        row_of: I32,
        items: I32,
        kinds: I8,
        weights: F32,
        at_ms: I64,
        offsets: I64,
        window: int = 0,
        ids: U64 | None = None,
        authors: Mapping[int, int] = NO_AUTHORS,
    ) -> Folded:
        """Apply n events, by row; a user's events stand in offset order. `window` = W asks for `Folded.previous`.
        `ids` are 64-bit hashes of the events' ids, 0 for none; one that is among the user's last `recent.KEPT` accepted
        is a duplicate and changes nothing.

        Impressions move the sums and stay out of the ring. Only positive actions count as previous items, of
        the last W in the ring. An undo takes back what `models.taste.undo` says, whatever weight is given. Other
        weights have the sign of their kind (`actions.weight_table` sees to it): the ring keeps their sizes.

        `authors`: place of an event -> hash of a name that a `hide` or `report` hides as well, and an `undo` shows
        again; with other kinds it says nothing.

        Raises BadInput("bad_time" | "bad_weight"), the state then unchanged.
        """
        n = len(row_of)
        if n and (int(at_ms.min()) < 0 or int(at_ms.max()) >= decay.MAX_AT_MS):
            raise BadInput("bad_time", "event time outside 0..2**46 ms")
        if not np.isfinite(weights).all():
            raise BadInput("bad_weight", "weight not finite")
        weights = decay.snap(weights)
        weights[items == UNKNOWN] = 0  # it has no code of its own: moves no sum
        applied = self._beyond_fence(row_of, offsets)
        ids = np.zeros(n, np.uint64) if ids is None else ids
        repeated = self._drop_duplicates(applied, ids, row_of)
        previous = np.full((n, window), -1, np.int32)
        touched: list[I32] = []
        lasts: list[I64] = []
        undone: list[undo.Undone] = []
        parted: list[tuple[I64, undo.Parted]] = []
        shown_again = fell_out = 0
        for part in _parts(applied.nonzero()[0], row_of, kinds):
            run = Run.of(row_of[part])
            events = undo.Events(items[part], kinds[part], weights[part], at_ms[part])
            if (events.kinds == actions.UNDO).any():
                walk = self._walk(run, events, window)
                previous[part] = walk.before
                at = np.flatnonzero(walk.kinds >= 0)
                undone.append(
                    undo.Undone(part[at], walk.kinds[at], np.negative(walk.weights[at]), walk.at_ms[at])
                )
                parted.append((part, walk.parted()))
                shows, found = walk.shows, walk.kinds >= 0
            else:
                shows = found = NOTHING
                self._fold_bank(run, events.items, events.weights, events.at_ms)
                before = self._fold_ring(run, events, window)
                if before is not None:
                    previous[part] = before
            hid = self._hide(row_of[part], events, part, authors, shows, found)
            shown_again, fell_out = shown_again + hid[0], fell_out + hid[1]
            self._keep_ids(run, ids[part])
            last = part[run.starts + run.counts - 1]
            self.fence[run.rows] = offsets[last]
            newest = np.maximum.reduceat(at_ms[part], run.starts)
            self.newest_at_ms[run.rows] = np.maximum(self.newest_at_ms[run.rows], newest)
            touched.append(run.rows)
            lasts.append(last)
        rows, last = latest(touched, lasts)
        taken = undo.joined(undone)
        wanted = int(np.count_nonzero(applied & (kinds == actions.UNDO)))
        in_vain = wanted - len(taken.places) - shown_again
        apart = undo.parted(parted)
        return Folded(
            rows, last, applied, row_of, repeated, previous, taken, in_vain, apart, shown_again, fell_out
        )

    def encode(self, rows: I32) -> list[bytes]:
        """One changelog value a row: equal states give equal bytes (layout in `models.taste.layout`)."""
        filled = np.minimum(self.pushed[rows], self.ring)
        heads = self.layout.heads(len(rows))
        heads["fence"] = self.fence[rows]
        heads["newest_at_ms"] = self.newest_at_ms[rows]
        heads["refs"] = self.refs[rows]
        heads["bank"] = self.bank[rows]
        heads["filled"] = filled
        kept = np.minimum(self.accepted[rows], recent.KEPT)
        heads["ids"] = kept
        turned = (self.accepted[rows] - kept)[:, None] + np.arange(recent.KEPT)  # oldest first
        ids = self.recent_ids[rows[:, None], turned % recent.KEPT]
        heads["recent_ids"] = np.where(np.arange(recent.KEPT) < kept[:, None], ids, 0)
        ends = np.cumsum(filled)
        nth = np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - filled, filled)
        oldest = np.repeat(self.pushed[rows] - filled, filled)
        at = np.repeat(rows.astype(np.int64), filled) * self.ring + (oldest + nth) % self.ring
        entries = self.layout.entries(
            self.items.hashes[self.ring_items.reshape(-1)[at]],
            self.ring_kinds.reshape(-1)[at],
            self.ring_sizes.reshape(-1)[at],
            self.ring_at_ms.reshape(-1)[at],
        )
        hashes = self.items.hashes
        tails = {
            place: layout.Tail(hashes[kept.items], kept.authors)
            for place, kept in self.hidden.of(rows).items()
        }
        return self.layout.join(heads, entries, ends, tails)

    def load(self, users: Sequence[str], values: Sequence[bytes], partition: int = 0) -> list[str]:
        """Set a partition's users to encoded states, given in the order of the log. Of several of one user, the one
        in memory included, that with the highest fence stands (`models.taste.fences`).

        Returns the users whose last given state is not the one that stands. Raises BadInput("state_layout") on another
        version, other settings or a wrong length; nothing is then loaded.
        """
        heads, entries, tails = self.layout.split(values)
        owners = self.rows_of(users, partition)
        fences = heads["fence"].astype(np.int64)
        chosen, overtaken = standing(owners.astype(np.int64), fences, self.fence[owners])
        rows, filled = owners, heads["filled"].astype(np.int64)
        if len(chosen) < len(owners):
            begins = (np.cumsum(filled) - filled)[chosen]
            heads, rows, filled = heads[chosen], owners[chosen], filled[chosen]
            ends = np.cumsum(filled)
            entries = entries[np.repeat(begins - ends + filled, filled) + np.arange(int(filled.sum()))]
            tails = {new: tails[old] for new, old in enumerate(chosen.tolist()) if old in tails}
        self.fence[rows] = heads["fence"]
        self.newest_at_ms[rows] = heads["newest_at_ms"]
        self.refs[rows] = heads["refs"]
        self.bank[rows] = heads["bank"]
        self.accepted[rows] = heads["ids"]
        self.recent_ids[rows] = heads["recent_ids"]
        self.pushed[rows] = filled
        ends = np.cumsum(filled)
        nth = np.arange(int(filled.sum())) - np.repeat(ends - filled, filled)
        at = np.repeat(rows.astype(np.int64), filled) * self.ring + nth
        self.ring_items.reshape(-1)[at] = self.items.by_hash(np.ascontiguousarray(entries["hash"]))
        self.ring_kinds.reshape(-1)[at] = entries["kind"]
        self.ring_sizes.reshape(-1)[at] = entries["size"]
        self.ring_at_ms.reshape(-1)[at] = layout.joined_at_ms(entries)
        self.hidden.load(
            rows, {place: Kept(self.items.by_hash(t.items), t.authors) for place, t in tails.items()}
        )
        return [self.names[row] for row in overtaken.tolist()]

    def recent(self, rows: I32, window: int) -> tuple[I32, I8, I64]:
        """The last `window` ring entries, most recent first: items (B, W), -1 padded; kinds; at_ms."""
        back = np.arange(1, window + 1)
        pushed = self.pushed[rows][:, None]
        at = (pushed - back) % self.ring
        at += (rows.astype(np.int64) * self.ring)[:, None]
        items = self.ring_items.reshape(-1)[at]
        items[back > np.minimum(pushed, self.ring)] = -1
        return items, self.ring_kinds.reshape(-1)[at], self.ring_at_ms.reshape(-1)[at]

    def held(self, rows: I32) -> tuple[I32, I8]:
        """All ring entries (B, R) in no particular order: items, -1 where the ring is not full; kinds."""
        items = np.take(self.ring_items, rows, 0)
        items[np.arange(self.ring) >= self.pushed[rows, None]] = -1
        return items, np.take(self.ring_kinds, rows, 0)

    def _beyond_fence(self, row_of: I32, offsets: I64) -> Bools:
        if not repeats(row_of, offsets):
            return offsets > self.fence[row_of]
        fences: dict[int, int] = {}  # a batch that repeats offsets: rare, so event by event
        applied = np.zeros(len(offsets), np.bool_)
        for i, (row, offset) in enumerate(zip(row_of.tolist(), offsets.tolist(), strict=True)):
            if offset > fences.get(row, int(self.fence[row])):
                fences[row] = offset
                applied[i] = True
        return applied

    def _drop_duplicates(self, applied: Bools, ids: U64, row_of: I32) -> int:
        """Take duplicates out of `applied`; how many there were."""
        if not ids.any():
            return 0
        chosen = applied.nonzero()[0]
        found = recent.duplicates(ids[chosen], row_of[chosen], self.recent_ids, self.accepted)
        applied[chosen[found]] = False
        return int(np.count_nonzero(found))

    def _hide(
        self,
        rows: I32,
        events: undo.Events,
        places: I64,
        authors: Mapping[int, int],
        shows: Bools,
        found: Bools,
    ) -> tuple[int, int]:
        """Take what is hidden, and hidden no longer, from n events in the order of each user. `shows` and `found` (n,)
        are what an undo does, or empty where there is none. How many undos did nothing else, and what fell out."""
        hides = actions.is_hiding(events.kinds)
        again = fell = 0
        for at in (hides | (events.kinds == actions.UNDO)).nonzero()[0].tolist():
            row, item, author = int(rows[at]), int(events.items[at]), authors.get(int(places[at]))
            if hides[at]:
                fell += item != UNKNOWN and self.hidden.hide(row, item)
                fell += author is not None and self.hidden.block(row, author)
                continue
            lifted = bool(shows[at]) and self.hidden.show(row, item)
            if author is not None:
                lifted |= self.hidden.unblock(row, author)
            again += lifted and not found[at]
        return again, fell

    def _keep_ids(self, run: Run, ids: U64) -> None:
        nth = np.arange(len(ids)) - run.starts[run.rank]
        last = nth >= run.counts[run.rank] - recent.KEPT  # older ones would be overwritten at once
        rows = run.rows[run.rank[last]]
        self.recent_ids[rows, (self.accepted[rows] + nth[last]) % recent.KEPT] = ids[last]
        self.accepted[run.rows] += run.counts

    def _walk(self, run: Run, events: undo.Events, window: int) -> undo.Walk:
        """Fold users of whom an undo is among the events: rings one by one, then the sums of all."""
        walk = undo.Walk(events, self.ring, window)
        rings: tuple[NDArray[Any], ...] = (
            self.ring_items,
            self.ring_kinds,
            self.ring_at_ms,
            self.ring_sizes,
        )
        for row, start, count in zip(
            run.rows.tolist(), run.starts.tolist(), run.counts.tolist(), strict=True
        ):
            pushed = int(self.pushed[row])
            slots = np.arange(max(0, pushed - self.ring), pushed) % self.ring  # oldest first
            entries = list(zip(*(ring[row, slots].tolist() for ring in rings), strict=True))
            entries = walk.through(entries, start, start + count)
            self.pushed[row] = len(entries)
            if entries:
                for ring, values in zip(rings, zip(*entries, strict=True), strict=True):
                    ring[row, : len(entries)] = values
        self._fold_bank(run, events.items, walk.weights, walk.at_ms, walk.kinds >= 0)
        return walk

    def _fold_bank(
        self, run: Run, items: I32, weights: F32, at_ms: I64, taken_back: Bools | None = None
    ) -> None:
        Bank(self.bank, self.refs, self.items.codes, self._half_lives_ms).fold(
            run, items, weights, at_ms, taken_back
        )

    def _fold_ring(self, run: Run, events: undo.Events, window: int) -> I32 | None:
        """Push all but impressions; the previous items (n, W) of each event if W > 0."""
        items, kinds = events.items, events.kinds
        enters = kinds != actions.IMPRESSION
        ends = np.cumsum(enters)  # how many entered up to and with each event
        nth = ends - enters  # ... before it; made relative to the user below
        base = nth[run.starts]
        nth -= base[run.rank]
        counts = ends[run.starts + run.counts - 1] - base
        known = np.where(actions.is_positive(kinds), items, np.int32(-1))
        before = self._previous(run, known, enters, nth, counts, window) if window else None
        last = enters & (nth >= counts[run.rank] - self.ring)  # older ones would be overwritten at once
        rank = run.rank[last]
        rows = run.rows[rank]
        slots = (self.pushed[rows] + nth[last]) % self.ring
        self.ring_items[rows, slots] = items[last]
        self.ring_kinds[rows, slots] = kinds[last]
        self.ring_at_ms[rows, slots] = events.at_ms[last]
        self.ring_sizes[rows, slots] = actions.sizes_of(events.weights[last])
        self.pushed[run.rows] += counts
        return before

    def _previous(self, run: Run, known: I32, enters: Bools, nth: I64, counts: I64, window: int) -> I32:
        items, kinds, _ = self.recent(run.rows, window)
        items[~actions.is_positive(kinds)] = -1
        begins = np.cumsum(counts + window) - (counts + window)  # where a user's stretch of `line` begins
        line = np.empty(int((counts + window).sum()), np.int32)
        line[begins[:, None] + np.arange(window)] = items[:, ::-1]
        at = begins[run.rank] + window + nth
        line[at[enters]] = known[enters]
        found: I32 = line[at[:, None] - np.arange(1, window + 1)]
        return found

    def _add_all(self, users: Sequence[str], index: dict[str, int], partition: int) -> I32:
        """Give rows to distinct users who have none: free ones first, then new ones. The rows (N,)."""
        self.reserve(len(self.names) + len(users))
        reused = [self._free.pop() for _ in range(min(len(self._free), len(users)))]
        first = len(self.names)
        rows = [*reused, *range(first, first + len(users) - len(reused))]
        index.update(zip(users, rows, strict=True))
        for row, name in zip(reused, users, strict=False):
            self.names[row] = name
        self.names += users[len(reused) :]
        given = np.array(rows, np.int32)
        self.partition_of[given] = partition
        return given

    def reserve(self, rows: int) -> None:
        """Room for this many rows. By a quarter once large: doubling would break the promise of 3 KB a user."""
        size = len(self.fence)
        if rows <= size:
            return
        grown = max(rows, 2 * size if size < 1024 else size + size // 4)
        for name, empty in _COLUMNS.items():
            columns.grow(self.__dict__, name, grown)
            if empty:
                self.__dict__[name][size:] = empty


# Every column and the value of an empty row.
_COLUMNS = {
    "partition_of": -1,
    "fence": -1,
    "newest_at_ms": 0,
    "refs": -1,
    "bank": 0,
    "accepted": 0,
    "recent_ids": 0,
    "pushed": 0,
    "ring_items": 0,
    "ring_kinds": 0,
    "ring_at_ms": 0,
    "ring_sizes": 0,
}


def _parts(chosen: I64, row_of: I32, kinds: I8) -> Iterator[I64]:
    """The events to fold, in parts: user by user, each one's in offset order, those with an undo apart."""
    for cut in range(0, len(chosen), _CHUNK):
        part = chosen[cut : cut + _CHUNK]
        part = part[np.argsort(row_of[part], kind="stable")]
        taking_back = kinds[part] == actions.UNDO
        if not taking_back.any():
            yield part
            continue
        walked = np.isin(row_of[part], row_of[part][taking_back])
        yield from (some for some in (part[~walked], part[walked]) if len(some))
