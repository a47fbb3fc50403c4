"""Readers' last events: what enters their rings, and what they had before each event. NumPy alone."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.taste import actions
from models.taste.readers import undo
from models.taste.readers.rows import Rows
from models.taste.runs import ALL, Run

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


def push(users: Rows, run: Run, events: undo.Events, window: int) -> I32 | None:
    """Enter all but impressions; the previous items (n, W) of each event if W > 0."""
    items, kinds = events.items, events.kinds
    enters = kinds != actions.IMPRESSION
    if run.once:
        before = _positive(users, run.rows, window) if window else None
        at = ALL if np.count_nonzero(enters) == len(enters) else enters.nonzero()[0]
        pushed = users.pushed[run.rows]
        _push(users, run.rows[at], pushed[at], events, at)
        users.pushed[run.rows] = pushed + enters
        return before
    ends = np.cumsum(enters)  # how many entered up to and with each event
    nth = ends - enters  # ... before it; made relative to the user below
    base = nth[run.starts]
    nth -= base[run.rank]
    counts = ends[run.starts + run.counts - 1] - base
    known = np.where(actions.is_positive(kinds), items, np.int32(-1))
    before = _previous(users, run, known, enters, nth, counts, window) if window else None
    # older ones would be overwritten at once
    at = (enters & (nth >= counts[run.rank] - users.ring)).nonzero()[0]
    rows = run.rows[run.rank[at]]
    _push(users, rows, users.pushed[rows] + nth[at], events, at)
    users.pushed[run.rows] += counts
    return before


def walked(users: Rows, run: Run, events: undo.Events, window: int) -> undo.Walk:
    """The rings of users of whom an undo is among the events, one by one; what it comes to for sums and others."""
    walk = undo.Walk(events, users.ring, window)
    rings: tuple[NDArray[Any], ...] = (
        users.ring_items,
        users.ring_kinds,
        users.ring_at_ms,
        users.ring_sizes,
    )
    for row, start, count in zip(run.rows.tolist(), run.starts.tolist(), run.counts.tolist(), strict=True):
        pushed = int(users.pushed[row])
        slots = np.arange(max(0, pushed - users.ring), pushed) % users.ring  # oldest first
        entries = list(zip(*(ring[row, slots].tolist() for ring in rings), strict=True))
        entries = walk.through(entries, start, start + count)
        users.pushed[row] = len(entries)
        if entries:
            for ring, values in zip(rings, zip(*entries, strict=True), strict=True):
                ring[row, : len(entries)] = values
    return walk


def _push(users: Rows, rows: I64, nth: I64, events: undo.Events, at: I64 | slice) -> None:
    """Set entries (N,), each its reader's nth, to the events at `at`."""
    cells = rows * users.ring + nth % users.ring
    users.ring_items.reshape(-1)[cells] = events.items[at]
    users.ring_kinds.reshape(-1)[cells] = events.kinds[at]
    users.ring_at_ms.reshape(-1)[cells] = events.at_ms[at]
    users.ring_sizes.reshape(-1)[cells] = actions.sizes_of(events.weights[at])


def _positive(users: Rows, rows: I64, window: int) -> I32:
    """(B, W) the last items of the rings, most recent first; -1 for those that are none or not positive."""
    items, kinds, _ = users.recent(rows, window)
    items[~actions.is_positive(kinds)] = -1
    return items


def _previous(users: Rows, run: Run, known: I32, enters: Bools, nth: I64, counts: I64, window: int) -> I32:
    items = _positive(users, run.rows, window)
    begins = np.cumsum(counts + window) - (counts + window)  # where a user's stretch of `line` begins
    line = np.empty(int((counts + window).sum()), np.int32)
    line[begins[:, None] + np.arange(window)] = items[:, ::-1]
    at = begins[run.rank] + window + nth
    line[at[enters]] = known[enters]
    found: I32 = line[at[:, None] - np.arange(1, window + 1)]
    return found
