"""An event sent twice changes nothing, wherever batches are cut; an id that was long ago is new again."""

from collections import deque
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.taste.index import ItemIndex
from models.taste.readers.layout import KEPT
from models.taste.readers.users import UserRows

START_MS = 1_767_225_600_000
CLICK = 2
events = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40)), min_size=1, max_size=120)


def folded(
    log: list[tuple[int, int]], cuts: list[int], offsets: list[int]
) -> tuple[UserRows, list[bool], int]:
    """Events (user, id) in batches; which were applied, and how many were called duplicates."""
    rows, applied, twice = UserRows(ItemIndex(), ring=64), [], 0
    bounds = sorted({0, len(log), *(cut % (len(log) + 1) for cut in cuts)})
    for start, stop in pairwise(bounds):
        part = log[start:stop]
        n = len(part)
        found = rows.fold(
            [f"u{user}" for user, _ in part],
            rows.items.lookup([f"i{one}" for _, one in part]),
            np.full(n, CLICK, np.int8),
            np.ones(n, np.float32),
            np.array([START_MS + 1000 * o for o in offsets[start:stop]], np.int64),
            np.array(offsets[start:stop], np.int64),
            ids=np.array([one for _, one in part], np.uint64),
        )
        applied += found.applied.tolist()
        twice += found.duplicates
    return rows, applied, twice


@settings(deadline=None)
@given(events, st.lists(st.integers(0, 200), max_size=6))
def test_like_a_plain_loop_however_batches_are_cut(log: list[tuple[int, int]], cuts: list[int]) -> None:
    last: dict[int, deque[int]] = {}
    expected = []
    for user, one in log:
        kept = last.setdefault(user, deque(maxlen=KEPT))
        expected.append(one == 0 or one not in kept)  # 0: an event without an id
        if expected[-1]:
            kept.append(one)
    offsets = list(range(len(log)))
    rows, applied, twice = folded(log, cuts, offsets)
    assert applied == expected and twice == expected.count(False)
    # the same as if the duplicates had never been sent, to the last bit
    kept_at = [n for n in offsets if expected[n]]
    clean, _, _ = folded([log[n] for n in kept_at], [], kept_at)
    users = sorted(rows.users())
    assert rows.encode(rows.rows_of(users)) == clean.encode(clean.rows_of(users))


def test_recent_ids_survive_a_restart() -> None:
    rows, _, _ = folded([(0, n) for n in range(1, 41)], [], list(range(40)))
    again = UserRows(rows.items, ring=64)
    again.load(["u0"], rows.encode(rows.rows_of(["u0"])))
    for one, fresh in ((40, False), (40 - KEPT + 1, False), (40 - KEPT, True)):
        found = again.fold(
            ["u0"],
            again.items.lookup(["i1"]),
            np.array([CLICK], np.int8),
            np.ones(1, np.float32),
            np.array([START_MS], np.int64),
            np.array([100 + one], np.int64),
            ids=np.array([one], np.uint64),
        )
        assert found.applied.tolist() == [fresh]
