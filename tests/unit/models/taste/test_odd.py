"""What is strange about clicks, and that those too late for every half-life move nothing."""

import numpy as np

from models.taste import actions, odd
from models.taste.index import ItemIndex
from models.taste.readers.rows import HALF_LIVES_S
from models.taste.readers.users import UserRows

DAY_MS = 86_400_000
NOW_MS = 1_700_000_000_000
HALF_LIVES_MS = tuple(int(h * 1000) for h in HALF_LIVES_S)


def test_each_rule() -> None:
    kinds = actions.codes_of(["click", "dwell", "dwell", "dwell", "click", "click", "click"])
    dwell_s = np.array([-5, -1, 90_000, 86_400, np.nan, np.nan, np.nan])
    behind = np.array([0, 0, 0, -7, 1, 40 * DAY_MS, 990 * DAY_MS])
    found = odd.strange(kinds, dwell_s, NOW_MS - behind, np.full(7, NOW_MS), HALF_LIVES_MS)
    assert np.flatnonzero(found["dwell"]).tolist() == [1, 2]
    assert np.flatnonzero(found["late"]).tolist() == [4, 5]
    assert np.flatnonzero(found["too_late"]).tolist() == [6]
    new = odd.strange(kinds, dwell_s, NOW_MS - behind, np.zeros(7, np.int64), HALF_LIVES_MS)
    assert not new.keys() & {"late", "too_late"}


def test_nothing_is_too_late_where_something_is_kept_for_ever() -> None:
    one = np.array([0], np.int64)
    found = odd.strange(actions.codes_of(["click"]), np.zeros(1), one, one + NOW_MS, (1000, 0))
    assert "too_late" not in found and found["late"].all()


def test_what_is_called_too_late_moves_no_sum() -> None:
    rows = UserRows(ItemIndex())
    items, kinds = rows.items.lookup(["a"]), actions.codes_of(["click"])
    ones, at_ms = np.ones(1, np.float32), np.array([NOW_MS], np.int64)
    rows.fold(["u"], items, kinds, ones, at_ms, np.array([0]))
    before = rows.bank.copy()
    for behind in range(991, 1100):
        late = at_ms - behind * DAY_MS
        found = odd.strange(kinds, np.zeros(1), late, rows.newest_at_ms[:1], HALF_LIVES_MS)
        assert found["too_late"].all()
        rows.fold(["u"], items, kinds, ones, late, np.array([behind]))
    np.testing.assert_array_equal(rows.bank, before)
