"""The recipe: cuts respect time, rounds cover everything, the same seed gives the same weights, and order is learnt."""

import numpy as np
import pytest
import torch

from models.sequence.folder import KINDS
from models.sequence.model import scores
from models.train import sequence as recipe_module
from models.train.firstvectors import first_vectors
from models.train.histories import TEST, TRAIN, VALIDATE, Histories, cut, windows
from models.train.sequence import Recipe, Round, measured, train_sequence

ITEMS = 12


def in_circles(readers: int = 30, events: int = 14, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Readers who take item after item in a fixed circle, each from somewhere: (users, items) in arrival order."""
    draw = np.random.default_rng(seed)
    at = draw.integers(0, ITEMS, readers)
    return (
        np.tile(np.arange(readers), events),
        ((at + np.arange(events)[:, None]) % ITEMS).reshape(-1),
    )


def histories(split: str = "leave-one-out") -> Histories:
    users, items = in_circles()
    at_ms = 1_000 * np.arange(len(users))
    order, parts = cut(users, at_ms, split)
    starts = np.concatenate([[0], np.cumsum(np.bincount(users))])
    return Histories(items[order].astype(np.int32), at_ms[order], starts, parts)


HASHES = np.arange(1, ITEMS + 1, dtype=np.uint64)


def test_leave_one_out_leaves_one_and_one_out() -> None:
    users = np.array([0, 1, 0, 0, 1, 2, 3, 3, 3, 3])
    order, parts = cut(users, np.arange(10), "leave-one-out")
    assert users[order].tolist() == sorted(users)
    assert order.tolist() == [0, 2, 3, 1, 4, 5, 6, 7, 8, 9]
    assert parts.tolist() == [TRAIN, VALIDATE, TEST, TRAIN, TEST, TRAIN, TRAIN, TRAIN, VALIDATE, TEST]


@pytest.mark.parametrize("split", ["time", "none"])
def test_by_time_nothing_is_trained_on_that_comes_after_what_is_asked(split: str) -> None:
    users = np.random.default_rng(0).integers(0, 9, 200)
    order, parts = cut(users, np.arange(200), split)
    ends = [order[parts == part] for part in (TRAIN, VALIDATE, TEST)]
    assert ends[0].max() < ends[1].min()
    assert len(ends[0]) == (160 if split == "time" else 180)
    assert len(ends[2]) == (20 if split == "time" else 0)
    assert not len(ends[2]) or ends[1].max() < ends[2].min()


def test_wrong_cuts_are_refused() -> None:
    with pytest.raises(ValueError, match="leave-one-out, time, none"):
        cut(np.zeros(3, int), np.zeros(3, int), "random")
    with pytest.raises(ValueError, match="shares"):
        cut(np.zeros(3, int), np.zeros(3, int), "time", (0.9, 0.2))


def test_windows_ask_for_each_trained_event_once_and_for_no_other() -> None:
    draw = np.random.default_rng(1)
    users = np.sort(draw.integers(0, 7, 400))
    _, parts = cut(users, np.arange(400), "leave-one-out")
    starts = np.concatenate([[0], np.cumsum(np.bincount(users))])
    numbered = Histories(np.arange(400, dtype=np.int32), np.arange(400), starts, parts)
    for _ in range(5):
        made = windows(numbered, 16, draw)
        asked = made[:, 1:][made[:, 1:] >= 0]
        firsts = starts[:-1]
        assert sorted(asked) == sorted(set(np.flatnonzero(parts == TRAIN)) - set(firsts))
        for row in made:
            held = row[row >= 0]
            assert (np.diff(held) == 1).all()  # in order, and of one reader
            assert len(set(users[held])) == 1
            assert (row[: len(held)] >= 0).all()


def test_shuffled_windows_hold_the_same_events_near_their_places() -> None:
    """Anew each time, and an event moves less than it is told."""
    draw, shuffle = np.random.default_rng(1), 4
    starts = np.array([0, 40, 41, 60])
    parts = np.full(60, TRAIN, np.int8)
    parts[30:40] = TEST
    numbered = Histories(np.arange(60, dtype=np.int32), np.arange(60), starts, parts)
    seen = set()
    for _ in range(20):
        made = windows(numbered, 64, draw, shuffle)
        rows = sorted((row[row >= 0].tolist() for row in made), key=min)
        assert [sorted(row) for row in rows] == [list(range(30)), list(range(41, 60))]
        for row in rows:
            moved = np.abs(np.array(row) - np.arange(min(row), min(row) + len(row)))
            assert moved.max() < shuffle
            earlier = np.maximum.accumulate(row)
            assert (earlier - row).max() < shuffle  # who stands behind was no so many places before
        seen.add(tuple(rows[0]))
    assert len(seen) > 10


def test_what_is_asked_sees_its_own_past_alone() -> None:
    data = histories()
    asked = data.asked(TEST, 1_000, np.random.default_rng(0))
    assert len(asked) == 30
    before = data.before(asked, 64)
    for event, row in zip(asked.tolist(), before, strict=True):
        start = data.starts[np.searchsorted(data.starts, event, side="right") - 1]
        assert row[row >= 0].tolist() == data.items[start:event].tolist()
    assert len(data.asked(TEST, 5, np.random.default_rng(0))) == 5


def test_first_vectors_put_together_what_is_had_together() -> None:
    """Two crowds that share nothing: vectors within one are alike, across they are not."""
    draw = np.random.default_rng(4)
    items = np.concatenate([draw.integers(0, 6, (20, 12)), draw.integers(6, 12, (20, 12))]).astype(np.int32)
    count = items.size
    data = Histories(
        items.reshape(-1), np.arange(count), np.arange(0, count + 1, 12), np.zeros(count, np.int8)
    )
    vectors = first_vectors(data, ITEMS, 8, 1.0, np.random.default_rng(0))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    within = np.concatenate([cosines[:6, :6][np.triu_indices(6, 1)], cosines[6:, 6:][np.triu_indices(6, 1)]])
    assert within.mean() > cosines[:6, 6:].mean() + 0.3
    assert np.linalg.norm(vectors, axis=1).mean() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_order_is_learnt_and_the_same_seed_learns_the_same(kind: str) -> None:
    data, told = histories(), list[Round]()
    before = torch.random.get_rng_state()
    recipe = Recipe(kind=kind, rounds=20, dropout=0.1, kept=0.9, patience=20)
    first = train_sequence(data, HASHES, recipe, own_out=False, progress=told.append)
    assert torch.equal(before, torch.random.get_rng_state())  # the caller's randomness is its own
    second = train_sequence(data, HASHES, recipe, own_out=False)
    for name, value in first.tensors.items():
        np.testing.assert_array_equal(value, second.tensors[name])
    assert first.test is not None
    assert first.test.asked == first.validation.asked == 30
    assert [one.number for one in told] == list(range(1, first.rounds + 1))
    assert first.best_round == max(one.number for one in told if one.best)
    # the next in the circle, for most readers the very first: chance is 1 in 12
    state = first.model.replay(np.array([[3, 4, 5], [9, 10, 11]], np.int32))
    assert scores(first.model, state).argmax(axis=1).tolist() == [6, 0]
    assert first.test.ndcg > 0.8
    other = train_sequence(data, HASHES, Recipe(kind=kind, rounds=1, seed=2), own_out=False)
    assert not np.array_equal(other.tensors["items.weight"], first.tensors["items.weight"])


def test_what_cannot_be_right_is_a_miss() -> None:
    """An item that the vocabulary lacks; a repeat, where own items are taken out."""
    data = histories()
    asked = data.asked(TEST, 1_000, np.random.default_rng(0))
    model = train_sequence(data, HASHES, Recipe(rounds=1), own_out=False).model
    assert measured(model, data, asked, own_out=False).hr > 0
    repeats = measured(model, data, asked, own_out=True)  # the fourteenth of twelve items
    assert (repeats.asked, repeats.hr, repeats.ndcg) == (30, 0.0, 0.0)
    items = data.items.copy()
    items[asked[:10]] = -1
    lacking = Histories(items, data.at_ms, data.starts, data.parts)
    assert lacking.asked(TEST, 1_000, np.random.default_rng(0)).tolist() == asked.tolist()
    assert measured(model, lacking, asked[:10], own_out=False).hr == 0


def test_over_many_items_a_sample_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe_module, "FULL_ITEMS", 5)
    monkeypatch.setattr(recipe_module, "SAMPLED", 6)
    recipe = Recipe(rounds=25, dropout=0.0, kept=0.9, patience=25)
    found = train_sequence(histories(), HASHES, recipe, own_out=False)
    assert found.test is not None
    assert found.test.ndcg > 0.7


def test_the_time_bounds_it_and_the_best_round_is_kept() -> None:
    asked = iter([False] * 5 + [True] * 100)
    found = train_sequence(
        histories(), HASHES, Recipe(batch=90), own_out=False, out_of_time=lambda: next(asked)
    )
    assert found.out_of_time
    assert found.best_round >= 1
    assert found.steps == 5


@pytest.mark.parametrize(("starts", "parts"), [([0, 2], [TRAIN, VALIDATE]), ([0, 1, 2], [TRAIN, TRAIN])])
def test_too_little_is_refused(starts: list[int], parts: list[int]) -> None:
    """Nobody has two events to train on, whether one is held back or none."""
    data = Histories(np.array([1, 2], np.int32), np.arange(2), np.array(starts), np.array(parts, np.int8))
    with pytest.raises(ValueError, match="too few events"):
        train_sequence(data, HASHES, Recipe())


def test_where_nothing_is_held_back_all_rounds_are_trained_and_the_last_is_kept() -> None:
    held, data, told = histories(), histories("all"), list[Round]()
    assert not data.parts.any() and data.trained().sum() == len(data.items)
    recipe = Recipe(rounds=9, patience=3, dropout=0.0, kept=0.5, batch=90)
    found = train_sequence(data, HASHES, recipe, own_out=False, progress=told.append)
    assert (found.rounds, found.best_round, found.validation.asked, found.test) == (9, 9, 0, None)
    assert all(one.best for one in told) and told[-1].loss < told[0].loss
    asked = held.asked(TEST, 1_000, np.random.default_rng(0))
    assert measured(found.model, held, asked, own_out=False).ndcg > 0.8  # it was trained on these
