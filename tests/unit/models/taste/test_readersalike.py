"""Readers alike against the plain form (`models.taste.alike.nearest`), reader by reader; cuts, a restart, who
leaves."""

import numpy as np
import pytest

from models.taste import actions
from models.taste.alike.nearest import NearestReaders
from models.taste.alike.usercf import latest, of
from models.taste.index import ItemIndex
from models.taste.lists.readersalike import FADE, NEAREST, PER_ITEM, PROFILE, ReadersAlike
from models.taste.readers.users import UserRows

START_MS = 1_700_000_000_000
READERS, ITEMS = 18, 40  # fewer readers than an item keeps: both forms then have the same candidates
CLICK, HIDE = actions.CODES["click"], actions.CODES["hide"]


class World:
    """Clicks of a few readers, some twice on an item, some negative."""

    def __init__(self, at_once: int = 7, count: int = 260) -> None:
        rng = np.random.default_rng(2)
        self.users = UserRows(ItemIndex())
        self.alike = ReadersAlike(self.users)
        self.histories: list[list[int]] = [[] for _ in range(READERS)]
        self.plain = NearestReaders(PROFILE, NEAREST, per_item=100)
        readers = rng.integers(0, READERS, count)
        items = self.users.items.lookup([f"i{n}" for n in (ITEMS * rng.random(count) ** 2).astype(int)])
        kinds = np.where(rng.random(count) < 0.1, HIDE, CLICK).astype(np.int8)
        for start in range(0, count, at_once):
            part = slice(start, start + at_once)
            rows = self.users.rows_of([f"u{n}" for n in readers[part].tolist()])
            numbers = np.arange(count)[part]
            folded = self.users.fold_rows(
                rows, items[part], kinds[part], actions.WEIGHTS[kinds[part]], START_MS + numbers, numbers
            )
            self.alike.follow(rows, items[part], kinds[part], folded.applied)
        for reader, item, kind in zip(readers.tolist(), items.tolist(), kinds.tolist(), strict=True):
            if kind == CLICK:
                self.histories[reader].append(item)
                profile = latest(np.array(self.histories[reader], np.int32), PROFILE)
                self.plain.change(reader, profile, item)
        self.rows = self.users.rows_of([f"u{n}" for n in range(READERS)])

    def scores(self) -> np.ndarray:  # type: ignore[type-arg]
        return self.alike.scores(self.users, self.rows, START_MS)


def test_it_is_the_plain_form_reader_by_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.taste.lists.readersalike.ASKED", PROFILE)
    monkeypatch.setattr("models.taste.lists.readersalike.PER_ITEM", 300)
    world = World()
    found = world.scores()
    assert found.shape == (READERS, len(world.users.items))
    for reader, history in enumerate(world.histories):
        items = latest(np.array(history, np.int32), PROFILE).items
        fading = of(items, FADE ** np.arange(len(items), dtype=np.float64)[::-1])
        plain = world.plain.scores(fading, found.shape[1], reader=reader)
        # `of` rounds values to 1/256
        np.testing.assert_allclose(found[reader], plain / plain.max(), atol=4e-3)
    assert (found.max(axis=1) == 1).all()


def test_it_does_not_depend_on_how_events_are_cut() -> None:
    found = World(1).scores()
    np.testing.assert_allclose(World(50).scores(), found, atol=1e-6)
    np.testing.assert_allclose(World(260).scores(), found, atol=1e-6)


def test_after_a_restart_it_is_made_anew_from_the_rings() -> None:
    world = World()
    names = [f"u{n}" for n in range(READERS)]
    again = UserRows(world.users.items)
    alike = ReadersAlike(again)
    again.load(names, world.users.encode(world.rows))
    rows = again.rows_of(names)
    alike.read_back(rows)
    np.testing.assert_array_equal(alike.profiles[rows], world.alike.profiles[world.rows])
    found = alike.scores(again, rows, START_MS)
    np.testing.assert_allclose(found, world.scores(), atol=1e-6)  # rings hold all that was had


def test_who_is_forgotten_has_no_part_in_it_and_strangers_get_nothing() -> None:
    world = World()
    for reader in range(1, READERS):
        world.users.forget(f"u{reader}")
    rows = world.users.rows_of(["u0", "new"])
    assert not world.alike.scores(world.users, rows, START_MS).any()
    empty = ReadersAlike(UserRows(ItemIndex()))
    assert empty.scores(empty._users, np.zeros(0, np.int32), 0).shape == (0, 1)


def test_an_item_leads_to_its_last_readers_alone() -> None:
    users = UserRows(ItemIndex())
    alike = ReadersAlike(users)
    count = PER_ITEM + 15
    rows = users.rows_of([f"u{n}" for n in range(count)])
    (item,) = users.items.lookup(["i"])
    alike.follow(rows, np.full(count, item), np.full(count, CLICK, np.int8), np.ones(count, np.bool_))
    assert set(alike.last[item].tolist()) == set(rows[-PER_ITEM:].tolist())
    assert alike.bytes_used() == alike.profiles.nbytes + alike.last.nbytes + alike.pushed.nbytes
