"""Users' states do not depend on how events were cut into batches: compared byte by byte."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.taste import actions
from models.taste.index import ItemIndex
from models.taste.readers.fold import Folded
from models.taste.readers.users import UserRows

MINUTE_MS = 60_000
START_MS = 1_700_000_000_000
# Equal times, within one half-life, a few, about the reach of 32, far beyond, and late by as much.
GAPS = [0, 1, 999, 20_000, *(MINUTE_MS * k for k in (1, 7, 20, 29, 31, 32, 33, 63, 64, 65, 5_000, 90_000))]


@dataclass
class Log:
    """Columns of events in offset order."""

    users: list[str]
    items: list[str]
    kinds: np.ndarray
    weights: np.ndarray
    at_ms: np.ndarray
    offsets: np.ndarray

    def fold(self, rows: UserRows, part: slice, window: int = 0) -> Folded:
        items = rows.items.lookup(self.items[part])
        columns = (self.kinds[part], self.weights[part], self.at_ms[part], self.offsets[part])
        return rows.fold(self.users[part], items, *columns, window)


def log_of(events: Sequence[tuple[int, int, int, float, int, bool]]) -> Log:
    """Events as (user, item, kind, weight, gap, late): `late` ones step back and do not move the clock."""
    users, items, kinds, weights, at_ms, now = [], [], [], [], [], START_MS
    for user, item, kind, weight, gap, late in events:
        users.append(f"u{user}")
        items.append(f"i{item}")
        kinds.append(kind)
        weights.append(weight)
        at_ms.append(now - gap if late else now + gap)
        now = now if late else now + gap
    columns = np.array(kinds, np.int8), np.array(weights, np.float32), np.array(at_ms, np.int64)
    return Log(users, items, *columns, np.arange(len(users), dtype=np.int64) * 3)


def seeded_log(seed: int, count: int, users: int, hot: float) -> Log:
    """A long log for which drawing each event would be too slow; `hot` is the share of user 0."""
    rng = np.random.default_rng(seed)
    who = np.where(rng.random(count) < hot, 0, rng.integers(0, users, count))
    gaps = rng.choice(GAPS, count, p=[0.3, 0.2, 0.1, 0.2, *[0.2 / 12] * 12])
    return log_of(
        list(
            zip(
                who.tolist(),
                rng.integers(0, 50, count).tolist(),
                rng.integers(0, len(actions.KINDS), count).tolist(),
                rng.choice([1.0, -1.0, 0.0, 0.004, -0.05, 2.0, 3.7, -10.0, 255.0], count).tolist(),
                gaps.tolist(),
                (rng.random(count) < 0.2).tolist(),
                strict=True,
            )
        )
    )


def fresh() -> UserRows:
    return UserRows(ItemIndex(max_items=1000), ring=8)


def state(rows: UserRows) -> dict[str, bytes]:
    users = sorted(rows.users())
    return dict(zip(users, rows.encode(rows.rows_of(users)), strict=True))


def folded(log: Log, cuts: Sequence[int]) -> dict[str, bytes]:
    rows = fresh()
    edges = [0, *sorted(cuts), len(log.users)]
    for start, stop in itertools.pairwise(edges):
        log.fold(rows, slice(start, stop))
    return state(rows)


EVENT = st.tuples(
    st.integers(0, 4),
    st.integers(0, 9),
    st.integers(0, len(actions.KINDS) - 1),
    st.one_of(st.sampled_from([1.0, -1.0, 0.0, 0.0039, -0.05, 255.0]), st.floats(-300, 300, width=32)),
    st.one_of(st.sampled_from(GAPS), st.integers(0, 4 * MINUTE_MS)),
    st.booleans(),
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(EVENT, min_size=1, max_size=60), st.lists(st.integers(0, 60), max_size=6))
def test_any_cut_gives_the_same_bytes(
    events: list[tuple[int, int, int, float, int, bool]], cuts: list[int]
) -> None:
    log = log_of(events)
    whole = folded(log, [])
    assert folded(log, [min(cut, len(events)) for cut in cuts]) == whole
    assert folded(log, range(len(events))) == whole  # one event at a time


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.4, 0.95]), st.integers(1, 40), st.randoms())
def test_long_logs_with_a_hot_user(seed: int, hot: float, users: int, random: object) -> None:
    log = seeded_log(seed, 700, users, hot)
    cuts = np.random.default_rng(seed + 1).integers(0, 700, 9).tolist()
    whole = folded(log, [])
    assert folded(log, cuts) == whole
    assert folded(log, range(0, 700, 7)) == whole
    assert folded(log, range(700)) == whole


def test_a_batch_larger_than_the_inner_chunk() -> None:
    log = seeded_log(3, 10_000, 300, 0.3)
    rows = fresh()
    found = log.fold(rows, slice(0, 10_000), 3)
    assert state(rows) == folded(log, range(0, 10_000, 999))
    newest = {user: i for i, user in enumerate(log.users)}
    assert dict(zip(found.rows.tolist(), found.last.tolist(), strict=True)) == {
        int(rows.rows_of([user])[0]): i for user, i in newest.items()
    }
    again = fresh()
    parts = [log.fold(again, slice(i, i + 500), 3).previous for i in range(0, 10_000, 500)]
    assert (np.concatenate(parts) == found.previous).all()
