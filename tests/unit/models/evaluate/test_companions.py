"""What goes with what, as an evaluation takes it: each finds what it is there for, and knows only what came before."""

import numpy as np
import pytest

from models.evaluate.blended import companions_of, past_of
from models.evaluate.densepairs import MAX_ITEMS, DensePairs
from models.evaluate.recording import Recording
from models.taste import actions
from models.taste.learnt.companions import NAMES, PAIRS, TOGETHER
from models.taste.learnt.pairs import Pairs, PairSettings


@pytest.mark.parametrize("how", [*PAIRS.values(), TOGETHER], ids=[*PAIRS, "together"])
def test_dense_pairs_are_the_bounded_ones_where_nothing_is_pushed_out(how: PairSettings) -> None:
    rng, items = np.random.default_rng(2), 30
    dense, bounded = DensePairs(how, items), Pairs(how, items)
    for _ in range(200):
        recent = rng.integers(0, items, int(rng.integers(0, 60))).astype(np.int32)
        item = int(rng.integers(items))
        dense.learn(recent, item)
        bounded.learn(recent, item)
    recent = rng.integers(0, items, 55).astype(np.int32)
    one = dense.scores(recent, items)
    np.testing.assert_allclose(one, bounded.scores(recent, items), rtol=1e-4)
    np.testing.assert_allclose(dense.walked(one), bounded.walked(one), rtol=1e-4)
    assert not dense.scores(recent[:0], items).any() and not dense.walked(np.zeros(items, np.float32)).any()
    with pytest.raises(ValueError, match="items x items"):
        DensePairs(how, MAX_ITEMS + 1)


def recording(users: list[int], items: list[int], at_s: list[float]) -> Recording:
    n = len(users)
    return Recording(
        np.array(users), np.array(items), (1000 * np.array(at_s)).astype(np.int64),
        np.full(n, actions.CODES["click"], np.int8), np.ones(n, np.float32),
        tuple(f"i{item}" for item in range(max(items) + 1)),
    )  # fmt: skip


def parts(what: Recording, number: int) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    size = len(what.item_names)
    companions = companions_of(size, ring=64, nearest=10)
    for event in what.events(np.arange(number)):
        companions.learn(past_of(event.moment), event.item, event.moment.at_ms)
    found = companions.scores(past_of(what.moment(number)), size)
    assert tuple(found) == NAMES and all(line.shape == (size,) for line in found.values())
    return found


def test_together_knows_pages_and_follows_the_order() -> None:
    """Items 0 and 1 come in one second, 2 a minute later; the next reader has 0."""
    what = recording([1, 1, 1, 2, 2], [0, 1, 2, 0, 3], [0, 0, 60, 100, 100])
    found = parts(what, 4)
    assert found["together"][1] > 0 == found["together"][2]
    assert found["follows"][1] > 0 == found["follows"][2]
    assert found["together-walk"][0] > 0  # from 1 back to 0
    assert found["now-50"][0] > found["now-2000"][0] - 2 and found["now-50"][2] < found["now-2000"][2]


def test_alongside_prefers_what_lies_behind_the_shared_item() -> None:
    """A reader alike had 0 .. 9 in this order; who now has 5 gets 6 before 4, and 4 before 0."""
    what = recording([1] * 10 + [2, 2], [*range(10), 5, 0], [float(n) for n in range(12)])
    found = parts(what, 11)
    assert found["alongside"][6] > found["alongside"][4] > found["alongside"][0] > 0
    assert found["readers"][6] == found["readers"][0]


def test_ridge_rests_in_catalogues_beyond_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.evaluate.blended.RIDGE_ITEMS", 3)
    monkeypatch.setattr("models.evaluate.blended.DENSE_ITEMS", 3)
    what = recording([1] * 5 + [2, 2], [0, 1, 2, 3, 4, 0, 1], [float(n) for n in range(7)])
    found = parts(what, 6)
    assert not found["ridge"].any() and found["steps"][1] > 0
