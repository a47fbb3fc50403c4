"""Bytes of the changelog across releases, and memory a user."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from models.errors import BadInput
from models.taste import actions
from models.taste.index import ItemIndex, hash_of
from models.taste.readers.users import UserRows

GOLDEN = Path(__file__).parents[3] / "golden"
START_MS = 1_700_000_000_000
AUTHORS = {9: hash_of("Ruth Ekman"), 10: hash_of("Sam"), 21: hash_of("Zoe"), 23: hash_of("Sam")}


def known_state(with_ids: bool = True) -> UserRows:
    """What the golden file holds: 30 events of one user at irregular times; two authors are hidden, one shown again."""
    rows = UserRows(ItemIndex(), ring=16)
    kinds = np.array([i % len(actions.KINDS) for i in range(30)], np.int8)
    at_ms = START_MS + np.array([i * i * 7_001 for i in range(30)], np.int64)
    items = rows.items.lookup([f"item-{i % 7}" for i in range(30)])
    weights = actions.weights_of(kinds, np.full(30, 12.5))
    ids = np.arange(1, 31, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) if with_ids else None
    rows.fold(["user"] * 30, items, kinds, weights, at_ms, np.arange(100, 130), ids=ids, authors=AUTHORS)
    return rows


FIRST = np.array([0], np.int32)


def loaded(version: int) -> tuple[bytes, UserRows]:
    golden = (GOLDEN / f"taste-user-v{version}.bin").read_bytes()
    assert golden[0] == version
    rows = UserRows(ItemIndex(), ring=16)
    rows.load(["user"], [golden])
    return golden, rows


def hidden(rows: UserRows) -> tuple[list[int], list[int]]:
    """Hashes of the items and authors that the one user hides."""
    (kept,) = rows.hidden.of(FIRST).values()
    return [int(rows.items.hashes[item]) for item in kept.items.tolist()], kept.authors.tolist()


def test_rows_of_this_version_are_what_they_were() -> None:
    golden, rows = loaded(4)
    assert known_state().encode(FIRST)[0] == golden == rows.encode(FIRST)[0]
    items = [hash_of(f"item-{n}") for n in (2, 3, 0, 1)]
    assert hidden(rows) == (items, [AUTHORS[9], AUTHORS[21]])
    assert len(golden) == rows.layout.largest_bytes - 8 * (256 + 64) + 8 * (4 + 2)  # a full ring


HEAD = 1 + 4 + 8 + 8 + 4 * 8
BANK = slice(HEAD + 2, HEAD + 2 + 4 * 4 * 66)
IDS = slice(BANK.stop, BANK.stop + 1 + 8 * 16)


def test_rows_of_version_3_hide_what_their_ring_hides() -> None:
    golden, rows = loaded(3)
    again = rows.encode(FIRST)[0]
    assert again[0] == 4 and again[1 : IDS.stop] == golden[1 : IDS.stop]
    entries = golden[IDS.stop :]
    assert again[IDS.stop + 3 : IDS.stop + 3 + len(entries)] == entries
    assert hidden(rows) == ([hash_of(f"item-{n}") for n in (2, 3, 0, 1)], [])


@pytest.mark.parametrize("version", [1, 2])
def test_rows_of_older_versions_are_read_and_written_as_this_one(version: int) -> None:
    """Version 1 has no recent ids. Neither has weights of entries: they get those of their kinds; and none that are
    undos, which older versions kept."""
    golden, rows = loaded(version)
    again = rows.encode(FIRST)[0]
    assert again[0] == 4 and again[1:HEAD] == golden[1:HEAD] and again[BANK] == golden[BANK]
    assert again[IDS] == (golden[IDS] if version == 2 else bytes(1 + 8 * 16))
    assert rows.fence[0] == 129 and rows.newest_at_ms[0] == START_MS + 29 * 29 * 7_001
    kept = [i for i in range(30) if i % 12 != actions.IMPRESSION][-16:]
    assert hidden(rows)[0] == list(dict.fromkeys(hash_of(f"item-{i % 7}") for i in kept if i % 12 in (9, 10)))
    kept = [i for i in kept[::-1] if i % 12 != actions.UNDO]
    items, kinds, at_ms = rows.recent(FIRST, len(kept) + 1)
    assert items[0, -1] == -1
    names = [f"item-{i % 7}" for i in kept]
    assert [rows.items.hashes[i] for i in items[0, :-1]] == [hash_of(name) for name in names]
    assert kinds[0, :-1].tolist() == [i % 12 for i in kept]
    assert at_ms[0, :-1].tolist() == [START_MS + i * i * 7_001 for i in kept]
    slots = np.arange(len(kept))[::-1]
    default = [0.0 if i % 12 == actions.DWELL else round(actions.WEIGHTS[i % 12] * 256) / 256 for i in kept]
    assert actions.signed(rows.ring_kinds[0, slots], rows.ring_sizes[0, slots]).tolist() == default


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_damaged_rows_of_any_version_are_refused(version: int) -> None:
    golden, _ = loaded(version)
    for damaged in (golden[:-1], golden[:-15], golden[:40], golden + b"x"):
        with pytest.raises(BadInput) as error:
            UserRows(ItemIndex(), ring=16).load(["user"], [damaged])
        assert error.value.reason == "state_layout"


def test_a_user_costs_at_most_3_kb() -> None:
    count = 20_000
    users = [f"reader-{i:012d}" for i in range(count)]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    rows = UserRows(ItemIndex())
    rows.items.lookup(["item"])
    zeros = np.zeros(1000, np.int32)
    for start in range(0, count, 1000):
        part = users[start : start + 1000]
        at_ms = np.full(1000, START_MS, np.int64)
        offsets = np.arange(start, start + 1000)
        rows.fold(part, zeros + 1, zeros.astype(np.int8) + 2, zeros.astype(np.float32) + 1, at_ms, offsets)
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert held / count < 3072
    assert rows.bytes_used() / count < 3072
    row = 8 + 8 + 4 * 8 + 4 * 66 * 4 + 8 + 64 * (4 + 1 + 8 + 4)  # fence, newest, refs, bank, pushed, ring
    assert row == 2200
    assert rows.bytes_used() >= (row + 100) * count


def test_a_batch_in_which_nobody_comes_twice_gives_the_bytes_of_one_in_which_somebody_does() -> None:
    """Three events each of more readers than share a block of sums: cut by event, and all in one."""
    readers, rng = 300, np.random.default_rng(4)
    names = [f"u{n}" for n in range(readers)] * 3
    kinds = rng.integers(0, actions.UNDO, 3 * readers).astype(np.int8)
    weights = actions.weights_of(kinds, np.full(3 * readers, 5.0))
    at_ms = START_MS + rng.integers(0, 90_000_000, 3 * readers)
    ids = rng.integers(0, 2**63, 3 * readers).astype(np.uint64)

    def played(cuts: int) -> tuple[UserRows, np.ndarray]:
        rows = UserRows(ItemIndex(), ring=2)
        items = rows.items.lookup([f"i{n % 40}" for n in range(3 * readers)])
        before = []
        for part in np.split(np.arange(3 * readers), cuts):
            given = (items[part], kinds[part], weights[part], at_ms[part], part)
            before.append(rows.fold([names[n] for n in part], *given, window=2, ids=ids[part]).previous)
        return rows, np.concatenate(before)

    (once, before), (twice, also) = played(3), played(1)
    np.testing.assert_array_equal(before, also)
    assert (before >= 0).any()
    owners = once.rows_of(names[:readers])
    assert once.encode(owners) == twice.encode(twice.rows_of(names[:readers]))


def test_growth_keeps_what_is_there_while_someone_looks() -> None:
    rows = known_state()
    view = rows.bank[:1]  # keeps the array from growing in place
    before = rows.encode(np.array([0], np.int32))
    rows.rows_of([f"u{i}" for i in range(5000)])
    assert rows.encode(np.array([0], np.int32)) == before
    assert view.base is not None
    assert (rows.fence[1:] == -1).all() and (rows.refs[1:] == -1).all() and not rows.bank[1:].any()


def test_dropping_forgets_everybody() -> None:
    rows = known_state()
    rows.clear()
    assert len(rows) == 0 and rows.users() == [] and rows.encode(np.empty(0, np.int32)) == []
