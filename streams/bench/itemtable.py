"""A filled item table for the benchmarks with lists: rows as the item agent writes them, from a seeded run."""

from collections.abc import Iterator

import numpy as np

from models.taste import actions
from models.taste.index import ItemIndex
from models.taste.items.neighbours import ItemColumns
from models.taste.readers.transitions import transitions
from models.taste.readers.users import UserRows
from streams.bench.feed import STEP_MS, item_name, user_name, zipf_ranks
from streams.taste.transitions import WINDOW

AT_ONCE = 4000
SESSION = 20  # items one reader goes through before the next starts


def item_rows(
    items: int, partitions: int, seed: int, start_ms: int, passes: int = 5
) -> list[tuple[bytes, bytes]]:
    """Item-table records (key, value) of all items, each with predecessors.

    Readers come one after another; every item is reached `passes` times from others, and as often again by Zipf's law.
    """
    index = ItemIndex(dim=64)
    rows = UserRows(index)
    columns = ItemColumns(index, sources=partitions)
    done = 0
    for chosen in _played(items, seed, passes):
        n = len(chosen)
        offsets = np.arange(done, done + n, dtype=np.int64)
        found = index.lookup([item_name(item) for item in chosen.tolist()])
        users = [user_name(position) for position in (offsets // SESSION).tolist()]
        kinds = np.full(n, actions.CODES["click"], np.int8)
        at_ms = start_ms + STEP_MS * offsets
        weights = np.ones(n, np.float32)
        folded = rows.fold(users, found, kinds, weights, at_ms, offsets, window=WINDOW)
        made = transitions(folded, found, kinds, weights, at_ms, offsets, 0)
        columns.fold(made, np.arange(done, done + len(made.items), dtype=np.int64))
        done += n
    all_rows = np.arange(len(columns), dtype=np.int64)
    return [
        (name.encode(), value)
        for name, value in zip(columns.names(all_rows), columns.encode(all_rows), strict=True)
    ]


def _played(items: int, seed: int, passes: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng(seed)
    for _ in range(passes):
        order = np.stack([random.permutation(items), zipf_ranks(items, items, random)], axis=1).reshape(-1)
        for cut in range(0, len(order), AT_ONCE):
            yield order[cut : cut + AT_ONCE]
