"""Further sources: they move lists by their weight, and their shares are exact and named."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from models.taste import actions
from models.taste.index import ItemIndex
from models.taste.items.catalogue import Catalogue
from models.taste.items.neighbours import ItemColumns
from models.taste.items.table import ItemTable
from models.taste.lists.choose import rank
from models.taste.lists.explore import draws
from models.taste.lists.pipeline import lists
from models.taste.lists.rank import RankSettings
from models.taste.lists.request import ListSettings, Requests
from models.taste.lists.scores import layer_scores
from models.taste.lists.sources import Weighted
from models.taste.readers.transitions import transitions
from models.taste.readers.users import UserRows
from streams.taste.lists import named

NOW_MS = 1_700_000_000_000
SETTINGS = RankSettings(taste=0.1)
F32 = NDArray[np.float32]
I32 = NDArray[np.int32]


class Fixed:
    """The same numbers for every reader of a row."""

    def __init__(self, name: str, seed: int, items: int) -> None:
        self.name = name
        self.numbers = np.random.default_rng(seed).normal(size=items).astype(np.float32)

    def scores(self, users: UserRows, rows: I32, now_ms: int) -> F32:
        return (1 + rows[:, None] % 3).astype(np.float32) * self.numbers


class World:
    """30 readers, 60 items, 900 clicks through the parts that serve."""

    def __init__(self) -> None:
        self.index = ItemIndex()
        self.users = UserRows(self.index)
        self.table = ItemTable(self.index, symmetry=0.5)
        columns = ItemColumns(self.index, sources=1)
        rng = np.random.default_rng(8)
        items = self.index.lookup([f"i{n}" for n in rng.integers(0, 60, 900)])
        people = [f"u{n}" for n in rng.integers(0, 30, 900)]
        kinds, weights = np.full(900, actions.CODES["click"], np.int8), np.ones(900, np.float32)
        at_ms, offsets = NOW_MS - 900 + np.arange(900), np.arange(900)
        folded = self.users.fold(people, items, kinds, weights, at_ms, offsets, 10)
        moved = transitions(folded, items, kinds, weights, at_ms, offsets, 0)
        changed = columns.fold(moved, moved.source_offsets)
        self.table.apply(columns.names(changed), list(columns.encode(changed, 100)))
        self.rows = self.users.rows_of([f"u{n}" for n in range(30)])
        size = len(self.index)
        self.further = (Weighted(Fixed("sequence", 1, size), 0.4), Weighted(Fixed("nearest", 2, size), -0.2))


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def test_shares_add_up_and_each_source_has_its_own(world: World) -> None:
    found = rank(world.table, world.users, world.rows, NOW_MS, 10, SETTINGS, world.further)
    held = found.items >= 0
    assert found.sources == ("sequence", "nearest") and found.layers.shape[2] == 5 and held.sum() > 200
    np.testing.assert_allclose(found.layers.sum(axis=2)[held], found.scores[held], rtol=1e-5)
    plain, _ = layer_scores(world.table, world.users, world.rows, NOW_MS, SETTINGS)
    scale = plain[0].max(axis=1)
    for nth, one in enumerate(world.further):
        said = one.source.scores(world.users, world.rows, NOW_MS) * (one.weight * scale)[:, None]
        expected = np.take_along_axis(said, np.maximum(found.items, 0), 1)
        np.testing.assert_allclose(found.layers[..., 3 + nth][held], expected[held], rtol=1e-5)


def test_a_list_is_the_best_of_the_summed_parts(world: World) -> None:
    parts, _ = layer_scores(world.table, world.users, world.rows, NOW_MS, SETTINGS, world.further)
    whole = rank(
        world.table, world.users, world.rows, NOW_MS, 5, replace(SETTINGS, repeat=True), world.further
    )
    scores = parts.sum(axis=0)[:, 1:]
    np.testing.assert_allclose(whole.scores[:, 0], scores.max(axis=1), rtol=1e-5)
    assert (whole.items[:, 0] == scores.argmax(axis=1) + 1).all()
    without = rank(world.table, world.users, world.rows, NOW_MS, 5, replace(SETTINGS, repeat=True))
    assert (whole.items != without.items).any() and without.sources == ()


def test_reasons_name_the_sources_and_add_up_through_every_stage(world: World) -> None:
    requests = Requests(world.rows, draws(np.zeros(30, np.int32), np.arange(30)))
    made = lists(
        world.table, Catalogue(world.index), world.users, requests, NOW_MS, 10,
        ListSettings(rank=SETTINGS, diversity="mmr"), further=world.further,
    ).lists  # fmt: skip
    assert made.sources == ("sequence", "nearest")
    seen = set()
    for reader in named(made, world.index.names):
        for item in reader:
            total = sum(reason.share for reason in item.reasons)
            assert total == pytest.approx(np.sign(item.score), abs=4e-3)
            seen |= {reason.type for reason in item.reasons}
    assert {"sequence", "nearest", "after", "taste"} <= seen


def test_sources_say_nothing_of_anonymous_readers(world: World) -> None:
    anonymous = np.arange(30) < 10
    requests = Requests(world.rows, draws(np.zeros(30, np.int32), np.arange(30)), anonymous)
    settings = ListSettings(rank=SETTINGS)
    found = lists(
        world.table,
        Catalogue(world.index),
        world.users,
        requests,
        NOW_MS,
        10,
        settings,
        further=world.further,
    ).lists
    assert not found.layers[:10, :, 3:].any() and found.layers[10:, :, 3:].any()


def test_a_source_of_the_wrong_shape_and_an_infinite_weight_are_refused(world: World) -> None:
    with pytest.raises(ValueError, match="sequence gave scores of shape"):
        rank(
            world.table,
            world.users,
            world.rows,
            NOW_MS,
            5,
            SETTINGS,
            [Weighted(Fixed("sequence", 1, 7), 1.0)],
        )
    with pytest.raises(ValueError, match="must be finite"):
        Weighted(Fixed("sequence", 1, 7), float("nan"))


def test_a_walk_is_two_steps_of_the_counts_at_the_scale_of_the_first(world: World) -> None:
    settings = replace(SETTINGS, walk=0.7)
    parts, _ = layer_scores(world.table, world.users, world.rows, NOW_MS, settings)
    table, size = world.table, len(world.index)
    prepared = table.prepared(NOW_MS, settings.popularity_power)
    dense = np.zeros((size, size))
    for item in range(size):
        for key, weight in zip(
            table.followers.keys[item].tolist(), table.followers.weights[item].tolist(), strict=True
        ):
            if key >= 0:
                dense[item, key] = weight
    sums = 1 + table.row_sums(np.arange(size, dtype=np.int32)) * prepared.factor
    for reader in range(0, 30, 7):
        one = parts[0, reader].astype(np.float64)
        heads = np.where(one >= np.sort(one)[-30], one, 0)
        two = (heads / heads.sum() / sums**0.5) @ dense * prepared.column
        np.testing.assert_allclose(parts[3, reader], 0.7 * one.max() * two / two.max(), rtol=1e-4, atol=1e-7)
    found = rank(world.table, world.users, world.rows, NOW_MS, 10, settings)
    held = found.items >= 0
    assert found.sources == ("walk",) and (found.layers[..., 3][held] > 0).any()
    np.testing.assert_allclose(found.layers.sum(axis=2)[held], found.scores[held], rtol=1e-5)
