"""Readers' states as changelog values, and back (layout in `models.taste.readers.layout`). NumPy alone."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.taste.fences import standing
from models.taste.readers import layout
from models.taste.readers.hidden import Kept
from models.taste.readers.rows import Rows

I32 = NDArray[np.int32]


def encode(users: Rows, rows: I32) -> list[bytes]:
    """One changelog value a row: equal states give equal bytes (layout in `models.taste.readers.layout`)."""
    wide = rows.astype(np.int64)
    pushed, accepted = users.pushed[wide], users.accepted[wide]
    filled = np.minimum(pushed, users.ring)
    heads = users.layout.heads(len(rows))
    heads["fence"] = users.fence[wide]
    heads["newest_at_ms"] = users.newest_at_ms[wide]
    heads["refs"] = users.refs.take(wide, 0)
    heads["bank"] = users.bank.take(wide, 0)
    heads["filled"] = filled
    kept = np.minimum(accepted, layout.KEPT)
    heads["ids"] = kept
    slots = np.arange(layout.KEPT)
    ids = users.recent_ids[wide[:, None], ((accepted - kept)[:, None] + slots) % layout.KEPT]  # oldest first
    if np.count_nonzero(kept < layout.KEPT):
        ids[slots >= kept[:, None]] = 0
    heads["recent_ids"] = ids
    most = int(filled.max(initial=0))
    at = ((pushed - filled)[:, None] + np.arange(most)) % users.ring  # oldest first
    at += (wide * users.ring)[:, None]
    if np.count_nonzero(filled < most):
        at = at[np.arange(most) < filled[:, None]]
    at = at.reshape(-1)
    entries = users.layout.entries(
        users.items.hashes[users.ring_items.reshape(-1)[at]],
        users.ring_kinds.reshape(-1)[at],
        users.ring_sizes.reshape(-1)[at],
        users.ring_at_ms.reshape(-1)[at],
    )
    hashes = users.items.hashes
    tails = {
        place: layout.Tail(hashes[kept.items], kept.authors) for place, kept in users.hidden.of(rows).items()
    }
    return users.layout.join(heads, entries, filled.cumsum(), tails)


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
