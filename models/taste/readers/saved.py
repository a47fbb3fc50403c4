"""Readers' states as changelog values, and back (layout in `models.taste.readers.layout`)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.taste.fences import standing
from models.taste.readers import layout
from models.taste.readers.hidden import Kept
from models.taste.readers.packed import pack
from models.taste.readers.rows import Rows

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
_AT_ONCE = 256  # states written at once: their bytes (up to 620 KB) stay in cache until they are cut apart


def encode(users: Rows, rows: I32) -> list[bytes]:
    """One changelog value a row: equal states give equal bytes (layout in `models.taste.readers.layout`)."""
    values: list[bytes] = []
    for start in range(0, len(rows), _AT_ONCE):
        values += _encoded(users, rows[start : start + _AT_ONCE].astype(np.int64))
    for place, kept in users.hidden.of(rows).items():
        tail = layout.Tail(users.items.hashes[kept.items], kept.authors)
        values[place] = users.layout.with_tail(values[place], tail)
    return values


def _encoded(users: Rows, rows: I64) -> list[bytes]:
    """Without what is hidden."""
    out, ends = np.empty(len(rows) * users.layout.plain_bytes, np.uint8), np.empty(len(rows), np.int64)
    pack(
        rows,
        layout.VERSION,
        users.layout.settings,
        users.items.hashes.view(np.int64),
        (
            users.fence,
            users.newest_at_ms,
            users.accepted,
            users.recent_ids.view(np.int64),
            users.refs,
            users.bank.reshape(len(users.bank), -1).view(np.uint8),
        ),
        (users.pushed, users.ring_items, users.ring_kinds, users.ring_at_ms, users.ring_sizes),
        out,
        ends,
    )
    stops = ends.tolist()
    written = out[: stops[-1]].tobytes()
    return [written[start:stop] for start, stop in zip([0, *stops], stops, strict=False)]


def load(users: Rows, names: Sequence[str], values: Sequence[bytes], partition: int = 0) -> list[str]:
    """Set a partition's users to encoded states, given in the order of the log. Of several of one user, the one
    in memory included, that with the highest fence stands (`models.taste.fences`).

    Returns the users whose last given state is not the one that stands. Raises BadInput("state_layout") on another
    version, other settings or a wrong length; nothing is then loaded.
    """
    heads, entries, tails = users.layout.split(values)
    owners = users.rows_of(names, partition)
    fences = heads["fence"].astype(np.int64)
    chosen, overtaken = standing(owners.astype(np.int64), fences, users.fence[owners])
    rows, filled = owners, heads["filled"].astype(np.int64)
    if len(chosen) < len(owners):
        begins = (np.cumsum(filled) - filled)[chosen]
        heads, rows, filled = heads[chosen], owners[chosen], filled[chosen]
        ends = np.cumsum(filled)
        entries = entries[np.repeat(begins - ends + filled, filled) + np.arange(int(filled.sum()))]
        tails = {new: tails[old] for new, old in enumerate(chosen.tolist()) if old in tails}
    users.fence[rows] = heads["fence"]
    users.newest_at_ms[rows] = heads["newest_at_ms"]
    users.refs[rows] = heads["refs"]
    users.bank[rows] = heads["bank"]
    users.accepted[rows] = heads["ids"]
    users.recent_ids[rows] = heads["recent_ids"]
    users.pushed[rows] = filled
    ends = np.cumsum(filled)
    nth = np.arange(int(filled.sum())) - np.repeat(ends - filled, filled)
    at = np.repeat(rows.astype(np.int64), filled) * users.ring + nth
    users.ring_items.reshape(-1)[at] = users.items.by_hash(np.ascontiguousarray(entries["hash"]))
    users.ring_kinds.reshape(-1)[at] = entries["kind"]
    users.ring_sizes.reshape(-1)[at] = entries["size"]
    users.ring_at_ms.reshape(-1)[at] = layout.joined_at_ms(entries)
    users.hidden.load(
        rows, {place: Kept(users.items.by_hash(t.items), t.authors) for place, t in tails.items()}
    )
    return [users.names[row] for row in overtaken.tolist()]
