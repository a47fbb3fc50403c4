"""A transition is keyed by its item's name; an item that only a state's hashes tell of has none yet."""

import numpy as np

from models.taste.actions import CODES
from models.taste.index import ItemIndex, hash_of
from models.taste.readers.users import UserRows
from streams.taste.transitions import TransitionWriter, partition_of

CLICK, UNDO = CODES["click"], CODES["undo"]


def written(
    rows: UserRows, writer: TransitionWriter, items: np.ndarray, kinds: list[int], first: int
) -> list[tuple[int, str]]:
    """(partition, key) of the transitions of one reader's events."""
    n = len(kinds)
    codes = np.array(kinds, np.int8)
    weights = np.where(codes == UNDO, 0, 1).astype(np.float32)
    at_ms, offsets = np.arange(first, first + n) * 1000, np.arange(first, first + n)
    ids = np.arange(first + 1, first + n + 1).astype(np.uint64)
    folded = rows.fold(["u"] * n, items, codes, weights, at_ms, offsets, 10, ids)
    emits = writer.emits(folded, items, codes, weights, at_ms, offsets, np.zeros(n, np.int32))
    return [(emit.partition, (key or b"").decode()) for emit in emits for key in emit.keys]


def test_a_pair_that_leads_to_an_item_without_a_name_stays_and_the_item_keeps_its_partition() -> None:
    before = ItemIndex()
    rows = UserRows(before, ring=64)
    written(rows, TransitionWriter(before, 8), before.lookup(["a", "b"]), [CLICK, CLICK], 0)
    state = rows.encode(rows.rows_of(["u"]))

    after = ItemIndex()  # a new process: of b it knows the hash alone
    again, writer = UserRows(after, ring=64), TransitionWriter(after, 8)
    again.load(["u"], state)
    assert written(again, writer, after.lookup(["a"]), [UNDO], 2) == [(partition_of("a", 8), "a")]
    assert writer.unnamed == 1
    assert after.index_of(hash_of("b")) and after.names[after.index_of(hash_of("b"))] is None

    assert written(again, writer, after.lookup(["b"]), [CLICK], 3) == [(partition_of("b", 8), "b")]
    assert written(again, writer, after.lookup(["b", "a"]), [UNDO, CLICK], 4)
    assert writer.unnamed == 1
