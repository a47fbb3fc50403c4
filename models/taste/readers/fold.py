"""Events into readers' states: fences, duplicates, sums, rings, what is hidden."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from models.errors import BadInput
from models.taste import actions, decay
from models.taste.index import UNKNOWN
from models.taste.readers import steps, undo
from models.taste.readers.rows import Rows

F32 = NDArray[np.float32]
I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Bools = NDArray[np.bool_]

NO_AUTHORS: Mapping[int, int] = MappingProxyType({})
_ALL = np.arange(len(actions.KINDS), dtype=np.int8)
_MARKS = (
    steps.POSITIVE * actions.is_positive(_ALL)
    + steps.HIDING * actions.is_hiding(_ALL)
    + steps.SILENT * (_ALL == actions.IMPRESSION)
    + steps.UNDO * (_ALL == actions.UNDO)
).astype(np.uint8)


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
    `ids` are 64-bit hashes of the events' ids, 0 for none; one that is among the user's last `layout.KEPT` accepted
    is a duplicate and changes nothing.

    Impressions move the sums and stay out of the ring. Only positive actions count as previous items, of
    the last W in the ring. An undo takes back what `models.taste.readers.undo` says, whatever weight is given. Other
    weights have the sign of their kind (`actions.weight_table` sees to it): the ring keeps their sizes.

    `authors`: place of an event -> hash of a name that a `hide` or `report` hides as well, and an `undo` shows
    again; with other kinds it says nothing.

    Raises BadInput("bad_time" | "bad_weight") and IndexError, the state then unchanged.
    """
    n, codes = len(row_of), users.items.codes
    rows = row_of.astype(np.int64)
    ids = np.zeros(n, np.uint64) if ids is None else ids
    events = (rows, items, kinds, weights, at_ms, offsets, ids)
    changing = _checked(events, len(users.fence), len(codes))
    applied = np.zeros(n, np.bool_)
    touched, last = np.empty(n, np.int32), np.empty(n, np.int64)
    previous = np.empty((n, window), np.int32)
    previous.fill(-1)
    undos, parted = np.empty((changing, 5), np.int64), np.empty((changing * window, 5), np.int64)
    count, duplicates, undone, pairs = steps.fold(
        rows.argsort(kind="stable"),
        events,
        _MARKS,
        (users.half_lives, decay.SCALES, decay.COARSE, decay.FINE),
        codes,
        (users.fence, users.newest_at_ms, users.accepted, users.recent_ids, users.refs, users.bank),
        (users.pushed, users.ring_items, users.ring_kinds, users.ring_at_ms, users.ring_sizes),
        (applied, touched, last, previous, undos, parted),
    )
    found = Folded(touched[:count], last[:count], applied, row_of, duplicates, previous)
    if not changing:
        return found
    undos = undos[:undone]
    shown_again, fell_out = _hide(users, rows, items, kinds, applied, undos, authors)
    taken = undo.taken_back(undos)
    return replace(
        found,
        undone=taken,
        in_vain=undone - len(taken.places) - shown_again,
        parted=undo.parted(parted[:pairs]),
        shown_again=shown_again,
        fell_out=fell_out,
    )


def _checked(events: steps.Events, readers: int, items: int) -> int:
    """How many hide or undo; see `fold_rows` for what it raises."""
    found = steps.checked(events, _MARKS, readers, items, decay.MAX_AT_MS)
    if found == steps.BAD_TIME:
        raise BadInput("bad_time", "event time outside 0..2**46 ms")
    if found == steps.BAD_WEIGHT:
        raise BadInput("bad_weight", "weight not finite")
    if found == steps.NOT_THERE:
        raise IndexError("a reader, an item or a kind of event that there is not")
    return found


def _hide(
    users: Rows,
    rows: I64,
    items: I32,
    kinds: I8,
    applied: Bools,
    undos: I64,
    authors: Mapping[int, int],
) -> tuple[int, int]:
    """Take what is hidden, and hidden no longer, from n events in the order of each user; `undos` as in `steps.Found`.
    How many undos did nothing else, and what fell out."""
    again = fell = 0
    shows = {int(one[0]): (one[1] >= 0, bool(one[4])) for one in undos}
    for at in (applied & actions.changes_hidden(kinds)).nonzero()[0].tolist():
        row, item, author = int(rows[at]), int(items[at]), authors.get(at)
        if at not in shows:
            fell += item != UNKNOWN and users.hidden.hide(row, item)
            fell += author is not None and users.hidden.block(row, author)
            continue
        took, showing = shows[at]
        lifted = showing and users.hidden.show(row, item)
        if author is not None:
            lifted |= users.hidden.unblock(row, author)
        again += lifted and not took
    return again, fell
