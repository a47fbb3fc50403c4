"""Content: the classic B^T C at an infinite half-life, forgetting at finite ones, and vectors from words."""

import math

import numpy as np
import pytest

from models.errors import BadInput
from models.taste.content import ContentBank, unit, vector

B = np.array([[1, 0, 1, 0, 1], [0, 1, 0, 1, 0], [1, 0, 0, 1, 0]])  # items x readers
VECTORS = unit(np.arange(1, 16, dtype=np.float64).reshape(3, 5))


def bank(half_life_s: float, order: np.ndarray) -> ContentBank:
    items, readers = np.nonzero(B)
    made = ContentBank(5, (half_life_s,))
    at_ms = 1000 * np.arange(len(items))
    for i in order.tolist():
        one = np.array([i])
        made.fold(readers[one].astype(np.int32), VECTORS[items[one]], np.ones(1, np.float32), at_ms[one])
    return made


def test_golden_values() -> None:
    made = bank(math.inf, np.arange(6))
    found = made.classic(np.array([0, 1], np.int32), VECTORS)
    assert found[0] == pytest.approx([1.945343, 1.962733, 1.945343], abs=2e-6)
    assert found[1] == pytest.approx([0.964951, 1, 0.997782], abs=2e-6)
    made.forget(0)
    assert not made.classic(np.array([0], np.int32), VECTORS).any()


@pytest.mark.parametrize("half_life_s", [1.0, 3.0, math.inf])
def test_any_order_gives_the_decayed_sum(half_life_s: float) -> None:
    items, readers = np.nonzero(B)
    for seed in range(5):
        made = bank(half_life_s, np.random.default_rng(seed).permutation(len(items)))
        for reader in range(5):
            mine = np.flatnonzero(readers == reader)
            weights = 2.0 ** (-(mine.max() - mine) / half_life_s)
            expected = unit((weights[:, None] * VECTORS[items[mine]]).sum(axis=0)[None])[0]
            found = unit(made.sums[reader])[0]
            assert found == pytest.approx(expected, abs=1e-5)


def test_vectors_and_bad_input() -> None:
    one = vector([("topic", 1.0, ["comedy", "war"])], 64)
    assert np.linalg.norm(one) == pytest.approx(1)
    assert not vector([("topic", 1.0, [])], 64).any()
    with pytest.raises(BadInput):
        ContentBank(2, (1.0,)).fold(
            np.zeros(1, np.int32),
            np.full((1, 2), np.nan, np.float32),
            np.ones(1, np.float32),
            np.zeros(1, np.int64),
        )
