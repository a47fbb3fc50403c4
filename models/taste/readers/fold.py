"""Events into readers' states: fences, duplicates, sums, rings, what is hidden. NumPy alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from models.errors import BadInput
from models.taste import actions, decay
from models.taste.bank import Bank
from models.taste.index import UNKNOWN
from models.taste.readers import recent, rings, undo
from models.taste.readers.rows import Rows
from models.taste.runs import Run, latest, repeats

F32 = NDArray[np.float32]
I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Bools = NDArray[np.bool_]

NO_AUTHORS: Mapping[int, int] = MappingProxyType({})
NOTHING: Bools = np.empty(0, np.bool_)
_CHUNK = 4096  # events folded at once: bounds the working memory (about 5 MB), and the cut changes no bit


@dataclass(frozen=True, slots=True)
class Folded:
    """What a fold did. n: events given, t: rows touched (those with an applied event)."""

    rows: I32  # (t,) ascending
    last: I64  # (t,) index of the row's last applied event
    applied: Bools  # (n,) False: at or below the user's fence, changed nothing
    row_of: I32 | I64  # (n,)
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


def fold_named(
    users: Rows,
    names: Sequence[str],
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
    rows = users.rows_of(names)
    return fold_rows(users, rows, items, kinds, weights, at_ms, offsets, window, ids, authors)


def fold_rows(
    users: Rows,
    row_of: I32 | I64,
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
    the last W in the ring. An undo takes back what `models.taste.readers.undo` says, whatever weight is given. Other
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
    given, row_of = row_of, row_of.astype(np.int64)  # NumPy widens an index anew each time it is used
    order = row_of.argsort(kind="stable")
    applied = _beyond_fence(users, row_of, offsets, order)
    ids = np.zeros(n, np.uint64) if ids is None else ids
    repeated = _drop_duplicates(users, applied, ids, row_of)
    undos = kinds == actions.UNDO
    previous = np.empty((n, window), np.int32)
    previous.fill(-1)
    touched: list[I64] = []
    lasts: list[I64] = []
    undone: list[undo.Undone] = []
    parted: list[tuple[I64, undo.Parted]] = []
    shown_again = fell_out = 0
    for part in _parts(order, applied, row_of, undos):
        run = Run.of(row_of[part])
        events = undo.Events(items[part], kinds[part], weights[part], at_ms[part])
        if np.count_nonzero(undos[part]):
            walk = rings.walked(users, run, events, window)
            _fold_bank(users, run, events.items, walk.weights, walk.at_ms, walk.kinds >= 0)
            previous[part] = walk.before
            at = np.flatnonzero(walk.kinds >= 0)
            undone.append(
                undo.Undone(part[at], walk.kinds[at], np.negative(walk.weights[at]), walk.at_ms[at])
            )
            parted.append((part, walk.parted()))
            shows, found = walk.shows, walk.kinds >= 0
        else:
            shows = found = NOTHING
            _fold_bank(users, run, events.items, events.weights, events.at_ms)
            before = rings.push(users, run, events, window)
            if before is not None:
                previous[part] = before
        hid = _hide(users, row_of[part], events, part, authors, shows, found)
        shown_again, fell_out = shown_again + hid[0], fell_out + hid[1]
        _keep_ids(users, run, ids[part])
        last = part[run.last]
        users.fence[run.rows] = offsets[last]
        newest = events.at_ms if run.once else np.maximum.reduceat(events.at_ms, run.starts)
        users.newest_at_ms[run.rows] = np.maximum(users.newest_at_ms[run.rows], newest)
        touched.append(run.rows)
        lasts.append(last)
    rows, last = latest(touched, lasts)
    taken = undo.joined(undone)
    wanted = int(np.count_nonzero(applied & undos))
    in_vain = wanted - len(taken.places) - shown_again
    apart = undo.parted(parted)
    return Folded(
        rows.astype(np.int32),
        last,
        applied,
        given,
        repeated,
        previous,
        taken,
        in_vain,
        apart,
        shown_again,
        fell_out,
    )


def _beyond_fence(users: Rows, row_of: I64, offsets: I64, order: I64) -> Bools:
    if not repeats(row_of, offsets, order):
        return offsets > users.fence[row_of]
    fences: dict[int, int] = {}  # a batch that repeats offsets: rare, so event by event
    applied = np.zeros(len(offsets), np.bool_)
    for i, (row, offset) in enumerate(zip(row_of.tolist(), offsets.tolist(), strict=True)):
        if offset > fences.get(row, int(users.fence[row])):
            fences[row] = offset
            applied[i] = True
    return applied


def _drop_duplicates(users: Rows, applied: Bools, ids: U64, row_of: I64) -> int:
    """Take duplicates out of `applied`; how many there were."""
    if recent.new(ids, row_of, users.recent_ids):
        return 0
    chosen = applied.nonzero()[0]
    found = recent.duplicates(ids[chosen], row_of[chosen], users.recent_ids, users.accepted)
    applied[chosen[found]] = False
    return int(np.count_nonzero(found))


def _hide(
    users: Rows,
    rows: I64,
    events: undo.Events,
    places: I64,
    authors: Mapping[int, int],
    shows: Bools,
    found: Bools,
) -> tuple[int, int]:
    """Take what is hidden, and hidden no longer, from n events in the order of each user. `shows` and `found` (n,)
    are what an undo does, or empty where there is none. How many undos did nothing else, and what fell out."""
    again = fell = 0
    for at in actions.changes_hidden(events.kinds).nonzero()[0].tolist():
        row, item, author = int(rows[at]), int(events.items[at]), authors.get(int(places[at]))
        if events.kinds[at] != actions.UNDO:
            fell += item != UNKNOWN and users.hidden.hide(row, item)
            fell += author is not None and users.hidden.block(row, author)
            continue
        lifted = bool(shows[at]) and users.hidden.show(row, item)
        if author is not None:
            lifted |= users.hidden.unblock(row, author)
        again += lifted and not found[at]
    return again, fell


def _keep_ids(users: Rows, run: Run, ids: U64) -> None:
    if run.once:
        accepted = users.accepted[run.rows]
        users.recent_ids[run.rows, accepted % recent.KEPT] = ids
        users.accepted[run.rows] = accepted + 1
        return
    nth = np.arange(len(ids)) - run.starts[run.rank]
    last = nth >= run.counts[run.rank] - recent.KEPT  # older ones would be overwritten at once
    rows = run.rows[run.rank[last]]
    users.recent_ids[rows, (users.accepted[rows] + nth[last]) % recent.KEPT] = ids[last]
    users.accepted[run.rows] += run.counts


def _fold_bank(
    users: Rows, run: Run, items: I32, weights: F32, at_ms: I64, taken_back: Bools | None = None
) -> None:
    Bank(users.bank, users.refs, users.items.codes, users.half_lives).fold(
        run, items, weights, at_ms, taken_back
    )


def _parts(order: I64, applied: Bools, row_of: I64, undos: Bools) -> Iterator[I64]:
    """The events to fold, in parts: user by user, each one's in offset order, those with an undo apart. `order` has
    all events so."""
    for part in _chunks(order, applied, row_of):
        taking_back = undos[part]
        if not np.count_nonzero(taking_back):
            yield part
            continue
        walked = np.isin(row_of[part], row_of[part][taking_back])
        yield from (some for some in (part[~walked], part[walked]) if len(some))


def _chunks(order: I64, applied: Bools, row_of: I64) -> Iterator[I64]:
    """What is applied, user by user, at most _CHUNK events at once: cut before it is ordered."""
    count = int(np.count_nonzero(applied))
    if 0 < count <= _CHUNK:
        yield order if count == len(order) else order[applied[order]]
        return
    chosen = applied.nonzero()[0]
    for cut in range(0, count, _CHUNK):
        part = chosen[cut : cut + _CHUNK]
        yield part[row_of[part].argsort(kind="stable")]
