"""The item side: transitions sent twice count once, partitions may interleave, rows survive a restart."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import BadInput
from models.taste import actions
from models.taste.index import ItemIndex
from models.taste.items.neighbours import ItemColumns
from models.taste.items.table import ItemTable
from models.taste.readers.transitions import Transitions, decode, encode
from models.taste.toplists import TopLists

CLICK = actions.CODES["click"]
START_MS = 1_700_000_000_000
W = 5


def random_transitions(index: ItemIndex, seed: int, count: int, sources: int = 3) -> Transitions:
    rng = np.random.default_rng(seed)
    items = index.lookup([f"i{i}" for i in range(30)])
    source = rng.integers(0, sources, count)
    offsets = np.zeros(count, np.int64)
    for p in range(sources):  # ascending within a source
        offsets[source == p] = np.cumsum(rng.integers(1, 4, int((source == p).sum())))
    previous = rng.choice(items, (count, W))
    previous[rng.random((count, W)) < 0.3] = -1
    shown = rng.random(count) < 0.2
    previous[shown] = -1
    return Transitions(
        rng.choice(items, count),
        previous,
        np.where(shown, actions.IMPRESSION, CLICK).astype(np.int8),
        rng.choice([1.0, 2.0, 0.5], count).astype(np.float32),
        START_MS + np.cumsum(rng.integers(0, 500_000, count)),
        source,
        offsets,
    )


def part(found: Transitions, at: np.ndarray) -> Transitions:
    return Transitions(*(getattr(found, name)[at] for name in Transitions.__dataclass_fields__))


def summary(columns: ItemColumns) -> dict[str, tuple[float, float, float, dict[int, float]]]:
    rows = np.arange(len(columns))
    keys, weights = columns.predecessors.heaviest(rows, columns.keep)
    scale = np.exp2(columns.ref[rows].astype(float) - START_MS / 3_600_000)
    return {
        name: (
            columns.popularity[i] * scale[i],
            columns.total[i] * scale[i],
            columns.impressions[i] * scale[i],
            {
                int(columns.items.hashes[key]): w * scale[i]
                for key, w in zip(keys[i], weights[i], strict=True)
                if key > 0
            },
        )
        for i, name in enumerate(columns.names(rows))
    }


def assert_close(found: ItemColumns, expected: ItemColumns) -> None:
    one, two = summary(found), summary(expected)
    assert one.keys() == two.keys()
    for name, (*sums, weights) in one.items():
        assert sums == pytest.approx(two[name][:3], rel=1e-6)
        assert weights == pytest.approx(two[name][3], rel=1e-5)


def columns_of(index: ItemIndex) -> ItemColumns:
    return ItemColumns(index, sources=3, half_life_s=3600.0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_what_is_sent_twice_counts_once(seed: int) -> None:
    """A taste worker that dies emits its last transitions again: new offsets, same source offsets."""
    index, rng = ItemIndex(), np.random.default_rng(seed)
    found = random_transitions(index, seed, 300)
    once, twice = columns_of(index), columns_of(index)
    once.fold(found, np.arange(300))
    log: list[int] = []
    place = 0
    while place < 300:
        stop = min(300, place + int(rng.integers(1, 80)))
        log.extend(range(place, stop))
        place = max(0, stop - int(rng.integers(0, 30))) if rng.random() < 0.6 and stop < 300 else stop
    cuts = [0, *sorted(rng.integers(0, len(log), 4).tolist()), len(log)]
    for start, stop in itertools.pairwise(cuts):
        again = np.array(log[start:stop], np.int64)
        twice.fold(part(found, again), np.arange(start, stop))
        if rng.random() < 0.3:  # and the item side itself reads a batch again
            twice.fold(part(found, again), np.arange(start, stop))
    assert_close(twice, once)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_partitions_may_interleave_in_any_way(seed: int) -> None:
    index, rng = ItemIndex(), np.random.default_rng(seed)
    found = random_transitions(index, seed, 200)
    straight, mixed = columns_of(index), columns_of(index)
    straight.fold(found, np.arange(200))
    order = np.argsort(rng.permutation(3)[found.sources], kind="stable")
    mixed.fold(part(found, order), np.arange(200))
    assert_close(mixed, straight)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 200))
def test_rows_and_transitions_survive_their_bytes(seed: int, crash: int) -> None:
    index, other = ItemIndex(), ItemIndex()
    other.lookup([f"i{i}" for i in range(29, -1, -4)])
    found = random_transitions(index, seed, 200)
    steady, first, second = columns_of(index), columns_of(index), columns_of(other)
    steady.fold(found, np.arange(200))
    first.fold(part(found, np.arange(crash)), np.arange(crash))
    values = first.encode(np.arange(len(first)), publish=first.keep)
    second.load(values)
    assert second.encode(np.arange(len(second)), publish=first.keep) == values
    rest = np.arange(max(0, crash - 20), 200)
    names = [index.names[i] or "" for i in found.items[rest]]
    second.fold(decode(names, encode(part(found, rest), index), other, W), rest)
    assert_close(second, steady)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.5]))
def test_a_table_fed_row_by_row_equals_one_fed_at_once(seed: int, symmetry: float) -> None:
    index = ItemIndex()
    found = random_transitions(index, seed, 200)
    columns = columns_of(index)
    tables = [ItemTable(index, 3600.0, followers=40, predecessors=40, symmetry=symmetry) for _ in range(2)]
    for start in range(0, 200, 10):
        at = np.arange(start, start + 10)
        rows = columns.fold(part(found, at), at)
        tables[0].apply(columns.names(rows), list(columns.encode(rows)))
    rows = np.arange(len(columns))
    tables[1].apply(columns.names(rows), list(columns.encode(rows)))
    one, two = tables
    assert one.ref == two.ref
    for name in ("popularity", "total", "out", "sketches"):
        np.testing.assert_allclose(getattr(one, name), getattr(two, name), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dense(one), dense(two), rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 9))
def test_late_rows_of_a_worker_that_lost_the_partition_change_no_table(seed: int, cuts: int) -> None:
    """Rows in any order, cut into any batches: the table is the one that the last rows alone give."""
    index, rng = ItemIndex(), np.random.default_rng(seed)
    found = random_transitions(index, seed, 200)
    columns = columns_of(index)
    log: list[tuple[str, bytes]] = []
    for start in range(0, 200, 20):
        at = np.arange(start, start + 20)
        rows = columns.fold(part(found, at), at)
        log += zip(columns.names(rows), columns.encode(rows), strict=True)
    shuffled, last = (ItemTable(index, 3600.0, followers=40, predecessors=40) for _ in range(2))
    for some in np.array_split(rng.permutation(len(log)), cuts):
        shuffled.apply([log[n][0] for n in some], [log[n][1] for n in some])
    rows = np.arange(len(columns))
    last.apply(columns.names(rows), list(columns.encode(rows)))
    for name in ("present", "fence", "popularity", "total", "newest_at_ms"):
        assert (getattr(shuffled, name) == getattr(last, name)).all(), name
    for name in ("out", "sketches"):
        np.testing.assert_allclose(getattr(shuffled, name), getattr(last, name), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dense(shuffled), dense(last), rtol=1e-5, atol=1e-5)


def dense(table: ItemTable) -> np.ndarray:
    found = np.zeros((40, 40))
    rows, slots = np.nonzero(table.followers.keys >= 0)
    found[rows, table.followers.keys[rows, slots]] = table.followers.weights[rows, slots]
    return found


def test_lists_keep_the_heaviest() -> None:
    lists = TopLists(3)
    row = np.zeros(5, np.int64)
    lists.put(row, np.array([1, 2, 3, 4, 5], np.int32), np.array([5, 1, 4, 2, 3], np.float32))
    assert lists.heaviest(row[:1], 3)[0].tolist() == [[1, 3, 5]]
    lists.put(row[:2], np.array([2, 6], np.int32), np.array([1, 3.5], np.float32))
    assert lists.heaviest(row[:1], 3)[0].tolist() == [[1, 3, 6]]
    lists.remove(row[:2], np.array([3, 9], np.int32))
    assert lists.heaviest(row[:1], 3)[0].tolist() == [[1, 6, -1]]
    lists.add(row[:3], np.array([7, 8, 6], np.int32), np.array([0.5, 0.4, 2], np.float32))
    keys, weights = lists.heaviest(row[:1], 3)
    assert keys.tolist() == [[6, 1, 7]] and weights.tolist() == [[5.5, 5, 0.5]]
    lists.add(
        row[:2], np.array([8, 9], np.int32), np.array([0.4, 0.3], np.float32)
    )  # the best newcomer gets in
    assert lists.heaviest(row[:1], 3)[0].tolist() == [[6, 1, 8]]


def test_other_layouts_are_refused() -> None:
    index = ItemIndex()
    found = random_transitions(index, 1, 50)
    columns = columns_of(index)
    columns.fold(found, np.arange(50))
    value = columns.encode(np.array([0]))[0]
    for wrong in (b"\x04" + value[1:], value[:-1], b"", value + b"x"):
        with pytest.raises(BadInput) as error:
            columns_of(index).load([wrong])
        assert error.value.reason == "item_layout"
    with pytest.raises(BadInput):
        ItemColumns(index, sources=4).load([value])
    record = encode(found, index)[0]
    for wrong in (b"\x02" + record[1:], record[:-1], b""):
        with pytest.raises(BadInput) as error:
            decode(["i"], [wrong], index, W)
        assert error.value.reason == "transition_layout"


def test_nothing_decays_at_an_infinite_half_life() -> None:
    index = ItemIndex()
    found = random_transitions(index, 2, 400)
    columns = ItemColumns(index, 3, half_life_s=math.inf)
    columns.fold(found, np.arange(400))
    clicks = found.kinds == CLICK
    for row, item in enumerate(columns.item_of[: len(columns)]):
        assert columns.popularity[row] == found.weights[clicks & (found.items == item)].sum()
        assert columns.impressions[row] == (~clicks & (found.items == item)).sum()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_more_may_be_taken_back_than_was_given_wherever_groups_are_cut(seed: int) -> None:
    """As after undos of which one stood between the others: the later takes a pair back as if it had stood nearer."""
    index, rng = ItemIndex(), np.random.default_rng(seed)
    found = random_transitions(index, seed, 300)
    back = (rng.random(300) < 0.3) & (found.kinds == CLICK)
    found.kinds[back], found.weights[back] = actions.UNDO, -found.weights[back]
    whole, cut, mixed = columns_of(index), columns_of(index), columns_of(index)
    whole.fold(found, np.arange(300))
    for places in np.array_split(np.arange(300), np.unique(rng.integers(0, 300, 40))):
        cut.fold(part(found, places), places)
    by_source = np.concatenate([np.flatnonzero(found.sources == source) for source in range(3)])
    mixed.fold(part(found, by_source), np.arange(300))

    one = summary(whole)
    given = max(abs(weight) for *_, pairs in one.values() for weight in pairs.values())
    assert min(weight for *_, pairs in one.values() for weight in pairs.values()) < 0
    for other in (summary(cut), summary(mixed)):
        for name, (popularity, total, impressions, pairs) in one.items():
            assert other[name][:3] == pytest.approx((popularity, total, impressions), rel=1e-6, abs=1e-5)
            held = pairs.keys() | other[name][3].keys()
            assert [other[name][3].get(key, 0.0) for key in held] == pytest.approx(
                [pairs.get(key, 0.0) for key in held],
                rel=1e-5,
                abs=max(1e-4, 1e-6 * given),  # what is left of sums
            )
    table = ItemTable(index, half_life_s=3600.0)
    table.apply(whole.names(np.arange(len(whole))), whole.encode(np.arange(len(whole)), whole.keep))
    assert table.columns.weights.min() >= 0 and table.total.min() >= 0 and table.followers.weights.min() >= 0
