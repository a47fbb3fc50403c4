"""Users' states: fences, duplicates, recovery, accuracy against direct sums, forgetting, errors."""

import math
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import BadInput
from models.taste import actions, decay
from models.taste.index import ItemIndex, hash_of, sign_codes
from models.taste.readers.rows import HALF_LIVES_S
from models.taste.readers.users import UserRows
from undone import left_of

CLICK = actions.CODES["click"]
START_MS = 1_700_000_000_000


def clicks(seed: int, count: int, users: int = 9) -> list[tuple[str, str, int, float, int, int]]:
    """(user, item, kind, weight, at_ms, offset): some late, some at equal times."""
    rng = np.random.default_rng(seed)
    at_ms = START_MS + np.cumsum(rng.choice([0, 10, 1000, 60_000, 4_000_000], count))
    at_ms -= np.where(rng.random(count) < 0.1, rng.integers(0, 10_000_000, count), 0)
    kinds = rng.integers(0, len(actions.KINDS), count).astype(np.int8)
    signs = np.where(actions.is_positive(kinds), 1.0, -1.0)
    return list(
        zip(
            [f"u{u}" for u in rng.integers(0, users, count)],
            [f"i{i}" for i in rng.integers(0, 60, count)],
            kinds.tolist(),
            (signs * rng.choice([1.0, 0.05, 2.0, 0.37], count)).tolist(),
            at_ms.tolist(),
            (np.arange(count) * 2 + 5).tolist(),
            strict=True,
        )
    )


def fold(rows: UserRows, events: list[tuple[str, str, int, float, int, int]], window: int = 0):  # type: ignore[no-untyped-def]
    users, items, kinds, weights, at_ms, offsets = zip(*events, strict=True) if events else [()] * 6
    return rows.fold(
        users,
        rows.items.lookup(items),
        np.array(kinds, np.int8),
        np.array(weights, np.float32),
        np.array(at_ms, np.int64),
        np.array(offsets, np.int64),
        window,
    )


def state(rows: UserRows) -> dict[str, bytes]:
    users = sorted(rows.users())
    return dict(zip(users, rows.encode(rows.rows_of(users)), strict=True))


def fresh(ring: int = 8) -> UserRows:
    return UserRows(ItemIndex(), ring=ring)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 200), max_size=4))
def test_replaying_any_part_changes_nothing(seed: int, replays: list[int]) -> None:
    events, once, again = clicks(seed, 200), fresh(), fresh()
    fold(once, events)
    place = 0
    for back in [*replays, 0]:  # read on to a point, then fall back and read again
        fold(again, events[place:back])
        place = max(0, back - 37)
    fold(again, events[place:])
    assert state(again) == state(once)
    assert not fold(again, events).applied.any()
    assert state(again) == state(once)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_duplicates_within_a_batch_change_nothing(seed: int) -> None:
    events = clicks(seed, 120)
    rng = np.random.default_rng(seed)
    doubled: list[tuple[str, str, int, float, int, int]] = []
    for i, event in enumerate(events):
        doubled.append(event)
        doubled.extend(events[j] for j in rng.integers(0, i + 1, rng.integers(0, 3)))
    once, twice = fresh(), fresh()
    fold(once, events)
    result = fold(twice, doubled)
    assert state(twice) == state(once)
    assert result.applied.sum() == len(events)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 300), st.integers(0, 60))
def test_recovery_gives_the_state_of_a_worker_that_never_crashed(seed: int, crash: int, ahead: int) -> None:
    events, steady = clicks(seed, 300), fresh()
    fold(steady, events)
    crashing = fresh()
    fold(crashing, events[:crash])
    changelog = state(crashing)
    fold(crashing, events[crash : crash + ahead])  # in memory only, lost
    recovered = UserRows(ItemIndex(), ring=8)
    recovered.items.lookup([f"i{i}" for i in range(50, 0, -3)])  # other indices than before
    recovered.load(list(changelog), list(changelog.values()))
    assert state(recovered) == changelog  # encode, load, encode is the identity
    fold(recovered, events[max(0, crash - 10) :])
    assert state(recovered) == state(steady)


def test_the_value_with_the_highest_fence_stands_whatever_the_order() -> None:
    events, rows = clicks(1, 100, users=1), fresh()
    fold(rows, events[:50])
    old = state(rows)["u0"]
    fold(rows, events[50:])
    new = state(rows)["u0"]
    for order in ([old, new], [new, old]):
        loaded = fresh()
        assert loaded.load(["u0", "u0"], order) == ([] if order[1] == new else ["u0"])
        assert state(loaded) == {"u0": new}
        assert loaded.load(["u0"], [old]) == ["u0"]  # behind what is in memory
        assert state(loaded) == {"u0": new}


@settings(deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 40))
def test_rows_of_zombies_in_any_order_recover_to_the_newest(random: Random, cuts: int) -> None:
    """Whatever older rows land again, whenever: what is read back is the state at the end, and those whose last row is
    not it are named."""
    events, rows, log = clicks(3, 200, users=6), fresh(), []
    for start in range(0, 200, 200 // cuts + 1):
        fold(rows, events[start : start + 200 // cuts + 1])
        log += list(state(rows).items())
    log += random.choices(log, k=20)
    random.shuffle(log)
    loaded, named = fresh(), set()
    for start in range(0, len(log), 7):
        part = log[start : start + 7]
        behind = loaded.load([user for user, _ in part], [value for _, value in part])
        named = (named - {user for user, _ in part}) | set(behind)
    newest = state(rows)
    assert state(loaded) == newest
    assert named == {user for user, value in dict(log).items() if value != newest[user]}


@pytest.mark.parametrize("half_lives_s", [HALF_LIVES_S, (math.inf, 7.5)])
def test_sums_equal_direct_float64_sums(half_lives_s: tuple[float, ...]) -> None:
    events = clicks(11, 3000, users=3)
    rows = UserRows(ItemIndex(), half_lives_s)
    for start, stop in pairwise(range(0, 3001, 300)):
        fold(rows, events[start:stop])
    hashes = np.array([hash_of(event[1]) for event in events], np.uint64)
    codes = sign_codes(hashes, 64).astype(np.float64)
    at_ms = np.array([event[4] for event in events])
    weights = decay.snap(np.array([event[3] for event in events], np.float32)).astype(np.float64)
    owners = np.array([event[0] for event in events])
    for user in ("u0", "u1", "u2"):
        row = rows.rows_of([user])[0]
        mine = np.flatnonzero(owners == user)
        kinds = [(events[n][1], actions.KINDS[events[n][2]]) for n in mine.tolist()]
        own = mine[left_of(kinds, rows.ring).counting]
        everything = np.abs(weights[mine]).sum()
        for h, half_life_s in enumerate(half_lives_s):
            ref = int(rows.refs[row, h])
            exponent = 0.0 if math.isinf(half_life_s) else at_ms[own] / (half_life_s * 1000) - ref
            parts = weights[own] * np.exp2(exponent)
            direct = np.concatenate([parts @ codes[own], [parts.sum(), np.abs(parts).sum()]])
            np.testing.assert_allclose(rows.bank[row, h], direct, atol=2e-6 * everything)


def test_busy_users_are_summed_left_to_right() -> None:
    """The reduction over the slow axis must be sequential: compared with a loop of single additions."""
    rng = np.random.default_rng(5)
    which, weights = rng.integers(0, 99, 4000), rng.integers(1, 60_000, 4000) / 256
    events = [
        ("u", f"i{i}", CLICK, w, START_MS, offset)
        for offset, (i, w) in enumerate(zip(which.tolist(), weights.tolist(), strict=True))
    ]
    rows = UserRows(ItemIndex(), (math.inf,))
    fold(rows, events)
    total = np.zeros(66, np.float32)
    for _, item, _, weight, _, _ in events:
        code = sign_codes(np.array([hash_of(item)], np.uint64), 64)[0]
        total += np.clip(np.float32(weight), 0, 255) * np.append(code, [1, 1]).astype(np.float32)
    assert total.tobytes() == rows.bank[rows.rows_of(["u"])[0], 0].tobytes()
    assert total.tobytes() != 0


def test_content_profile_at_an_infinite_half_life() -> None:
    """P = B^T C, the classic content profile: the bank's dot product with items' unit vectors."""
    features = np.arange(1, 16, dtype=np.float64).reshape(3, 5)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    had = np.array([[1, 0, 1, 0, 1], [0, 1, 0, 1, 0], [1, 0, 0, 1, 0]])  # items x users
    index = ItemIndex()
    rows = UserRows(index, (math.inf,))
    ids = index.lookup(["i0", "i1", "i2"])
    index._make_codes()
    index._codes[ids, :] = 0
    index._codes[ids, :5] = unit  # content vectors in the place of sign codes
    pairs = [(item, user) for item in range(3) for user in range(5) if had[item, user]]
    fold(rows, [(f"u{u}", f"i{i}", CLICK, 1.0, START_MS + n, n) for n, (i, u) in enumerate(pairs)])
    profiles = rows.bank[rows.rows_of([f"u{u}" for u in range(5)]), 0, :5]
    scores = profiles @ unit.T
    np.testing.assert_allclose(scores[0], [1.945343, 1.962733, 1.945343], atol=1e-6)
    np.testing.assert_allclose(scores[1], [0.964951, 1.0, 0.997782], atol=1e-6)
    np.testing.assert_allclose(scores, had.T @ (unit @ unit.T), rtol=1e-6)


def test_previous_items_across_batches() -> None:
    events = [(f"u{i % 2}", f"i{i}", CLICK, 1.0, START_MS + i, i) for i in range(30)]
    events[7] = ("u1", "i7", actions.CODES["hide"], -4.0, START_MS + 7, 7)
    events[9] = ("u1", "i9", actions.IMPRESSION, -0.05, START_MS + 9, 9)
    for cut in (1, 4, 30):
        rows, found = fresh(), []
        for start in range(0, 30, cut):
            found.extend(fold(rows, events[start : start + cut], window=4).previous.tolist())
        for i, (user, *_) in enumerate(events):
            ring = [e for e in events[:i] if e[0] == user and e[2] != actions.IMPRESSION][::-1][:4]
            names = [rows.items.names[j] if j > 0 else None for j in found[i]]
            expected = [e[1] if e[2] == CLICK else None for e in ring]
            assert names == expected + [None] * (4 - len(expected))


def test_forgetting_frees_the_row_and_leaves_nothing() -> None:
    events, rows = clicks(2, 200), fresh()
    fold(rows, events)
    assert rows.forget("u3") and not rows.forget("u3")
    assert "u3" not in rows.users()
    row = rows.rows_of(["somebody else"])[0]
    empty = fresh()
    empty.rows_of(["somebody else"])
    assert rows.encode(np.array([row], np.int32)) == empty.encode(np.array([0], np.int32))
    other = fresh()
    fold(other, [event for event in events if event[0] != "u3"])
    assert {u: v for u, v in state(rows).items() if u != "somebody else"} == state(other)


def test_bad_input_leaves_the_state_alone() -> None:
    events, rows = clicks(3, 50), fresh()
    fold(rows, events)
    before = state(rows)
    for weight, at_ms in ((math.nan, START_MS), (1.0, -1), (1.0, 1 << 46)):
        bad = ("u1", "i1", CLICK, weight, at_ms, 999)
        with pytest.raises(BadInput):
            fold(rows, [("u1", "i1", CLICK, 1.0, START_MS, 998), bad])
        assert state(rows) == before
    value = before["u1"]
    other = UserRows(ItemIndex(), (60.0, 3600.0, 86400.0, 29 * 86400.0), ring=8)
    for reader, wrong in (
        (fresh(), b"\x05" + value[1:]),
        (fresh(), value[:-1]),
        (fresh(), b"\x01"),
        (other, value),
    ):
        with pytest.raises(BadInput) as error:
            reader.load(["u1"], [wrong])
        assert error.value.reason == "state_layout"
        assert len(reader) == 0
