"""Readers' states after any batches equal those of a plain loop over each reader's events, to the last bit."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.taste import actions
from models.taste.index import ItemIndex
from models.taste.readers.fold import Folded
from models.taste.readers.layout import KEPT
from models.taste.readers.users import UserRows
from plain_reader import Event, PlainReader, Told

START_MS = 1_700_000_000_000
HALF_LIVES_S = ((60.0, 3600.0, 86400.0, 30 * 86400.0), (math.inf, 7.5), (0.001,))
SIZES = [0.0, 0.001, 0.05, 1.0, 0.37, 254.999, 1e30]


class World:
    """A product and its oracle, side by side."""

    def __init__(self, seed: int, half_lives_s: tuple[float, ...], ring: int, window: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.window = window
        self.rows = UserRows(ItemIndex(max_items=int(self.rng.choice([8, 1000]))), half_lives_s, ring)
        self.plain: dict[str, PlainReader] = {}
        self.offset = 0
        self.ids: list[int] = [0]
        self.undos = float(self.rng.choice([0, 0.02, 0.3]))

    def events(self, count: int, users: int) -> list[tuple[str, str, Event]]:
        """Some late or far apart, some of known ids, some that the log brings again."""
        rng, found = self.rng, []
        kinds = rng.integers(0, actions.UNDO, count)
        kinds[rng.random(count) < self.undos] = actions.UNDO
        at_ms = START_MS + np.cumsum(rng.choice([0, 3, 5_000, 1_000_000, 3_000_000_000], count))
        at_ms -= np.where(rng.random(count) < 0.1, rng.integers(0, 40 * 86_400_000, count), 0)
        for kind, time_ms in zip(kinds.tolist(), at_ms.tolist(), strict=True):
            sign = 1 if actions.is_positive(np.array([kind]))[0] else -1
            one = self.ids[rng.integers(len(self.ids))] if rng.random() < 0.1 else int(rng.integers(1, 2**63))
            self.ids.append(one)
            self.offset += 3
            event = Event(0, kind, sign * float(rng.choice(SIZES)), time_ms, self.offset, one)
            found.append((f"u{rng.integers(users)}", f"i{rng.integers(12)}", event))
            if rng.random() < 0.05:
                found.append(found[rng.integers(len(found))])
        return found

    def fold(self, events: list[tuple[str, str, Event]]) -> None:
        index = self.rows.items
        users = [user for user, _, _ in events]
        items = index.lookup([item for _, item, _ in events])
        folded = self.rows.fold(
            users,
            items,
            np.array([event.kind for _, _, event in events], np.int8),
            np.array([event.weight for _, _, event in events], np.float32),
            np.array([event.at_ms for _, _, event in events], np.int64),
            np.array([event.offset for _, _, event in events], np.int64),
            self.window,
            np.array([event.id for _, _, event in events], np.uint64),
        )
        made = self.rows.half_lives_ms, self.rows.ring, index.dim
        told = []
        for user, item, (_, _, event) in zip(users, items.tolist(), events, strict=True):
            reader = self.plain.setdefault(user, PlainReader(*made))
            told.append(reader.fold(_with_item(event, item), index.codes[item], self.window))
        assert_told(folded, told)
        last = {self.rows.rows_of([user])[0]: n for n, user in enumerate(users) if told[n].applied}
        assert dict(zip(folded.rows.tolist(), folded.last.tolist(), strict=True)) == last
        assert folded.rows.tolist() == sorted(last)

    def assert_same_states(self) -> None:
        rows = self.rows
        for user, reader in self.plain.items():
            (row,) = rows.rows_of([user]).tolist()
            count = len(reader.ring)
            slots = [n % rows.ring for n in range(rows.pushed[row] - count, rows.pushed[row])]
            columns = rows.ring_items, rows.ring_kinds, rows.ring_at_ms, rows.ring_sizes
            ring = list(zip(*(column[row, slots].tolist() for column in columns), strict=True))
            hidden = rows.hidden.of(np.array([row], np.int32))
            assert (hidden[0].items.tolist() if hidden else []) == reader.hidden
            (last,) = zip(
                *(column.tolist() for column in rows.recent(np.array([row]), rows.ring + 1)), strict=True
            )
            padded = [entry[:3] for entry in ring[::-1]] + [(-1, 0, 0)] * (rows.ring + 1 - count)
            assert list(zip(*last, strict=True)) == padded
            assert ring == reader.ring and min(rows.pushed[row], rows.ring) == count
            assert (rows.fence[row], rows.newest_at_ms[row]) == (reader.fence, reader.newest_at_ms)
            assert sorted(rows.recent_ids[row].tolist()) == sorted(
                [*reader.ids, *[0] * (KEPT - len(reader.ids))]
            )
            assert rows.refs[row].tolist() == reader.refs.tolist()
            assert rows.bank[row].tobytes() == reader.bank.tobytes()


def _with_item(event: Event, item: int) -> Event:
    return Event(item, event.kind, event.weight, event.at_ms, event.offset, event.id)


def assert_told(folded: Folded, told: list[Told]) -> None:
    window = folded.previous.shape[1]
    assert folded.applied.tolist() == [one.applied for one in told]
    assert folded.duplicates == sum(one.duplicate for one in told)
    assert folded.in_vain == sum(one.in_vain for one in told)
    assert folded.shown_again == sum(one.shown_again for one in told)
    padded = [one.previous + [-1] * (window - len(one.previous)) for one in told]
    assert folded.previous.tolist() == padded
    undone = folded.undone
    taken = [(n, one.taken[1], one.taken[2], one.taken[3] / 256) for n, one in enumerate(told) if one.taken]
    sizes = np.abs(undone.weights).tolist()
    columns = undone.places.tolist(), undone.kinds.tolist(), undone.at_ms.tolist(), sizes
    assert list(zip(*columns, strict=True)) == taken
    assert ((undone.weights >= 0) == (actions.is_positive(undone.kinds) | (undone.weights == 0))).all()
    parted = folded.parted
    assert list(
        zip(
            *(column.tolist() for column in (parted.places, parted.items, parted.back, parted.at_ms)),
            (256 * parted.weights).tolist(),
            strict=True,
        )
    ) == [
        (n, item, bits, at_ms, size)
        for n, one in enumerate(told)
        for item, (bits, size, at_ms) in sorted(one.parted.items())
    ]


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from(HALF_LIVES_S),
    st.sampled_from([1, 3, 64]),
    st.sampled_from([0, 1, 3, 10]),
    st.sampled_from([1, 2, 30]),
    st.lists(st.sampled_from([0, 1, 8, 90]), max_size=5),
)
def test_like_a_plain_loop_over_each_readers_events(
    seed: int, half_lives_s: tuple[float, ...], ring: int, window: int, users: int, groups: list[int]
) -> None:
    world = World(seed, half_lives_s, ring, window)
    for count in groups:
        world.fold(world.events(count, users))
    world.assert_same_states()


def test_like_a_plain_loop_for_a_reader_with_thousands() -> None:
    world = World(5, HALF_LIVES_S[0], 64, 10)
    world.fold(world.events(4000, 2))
    world.assert_same_states()


@pytest.mark.parametrize(("row", "item", "kind"), [(64, 1, 2), (-1, 1, 2), (0, 9, 2), (0, -1, 2), (0, 1, 12)])
def test_what_is_not_there_is_refused_before_anything_changes(row: int, item: int, kind: int) -> None:
    rows = UserRows(ItemIndex())
    rows.rows_of(["u"])
    rows.items.lookup(["i"])
    with pytest.raises(IndexError):
        rows.fold_rows(
            np.array([0, row]),
            np.array([1, item], np.int32),
            np.array([2, kind], np.int8),
            np.ones(2, np.float32),
            np.full(2, START_MS),
            np.arange(2),
        )
    assert rows.fence[0] == -1 and not rows.bank.any()
