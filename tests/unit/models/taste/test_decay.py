"""Forward decay in exact powers of two."""

import math
from decimal import Decimal, getcontext

import numpy as np
import pytest

from models.taste import decay


def test_scales_are_exact_powers_of_two() -> None:
    assert [float(s) for s in decay.SCALES[:-1]] == [2.0**-i for i in range(32)] and decay.SCALES[-1] == 0
    assert decay.scale_of(np.array([0, 1, 31, 32, 10**9])).tolist() == [1, 0.5, 2.0**-31, 0, 0]


def test_weights_are_multiples_of_a_256th() -> None:
    snapped = decay.snap(np.array([0.001, 0.002, -0.05, 1.0, 254.999, 1e9, -1e9], np.float32))
    assert snapped.tolist() == [0, 1 / 256, -13 / 256, 1, 255, 255, -255]


def test_frames_equal_decimal_arithmetic() -> None:
    getcontext().prec = 40
    rng = np.random.default_rng(1)
    at_ms = rng.integers(0, decay.MAX_AT_MS, 300)
    for half_life_ms in (1, 7, 60_000, 2_592_000_000):
        whole, scaled = decay.frames(at_ms, np.full(300, 0.75, np.float32), np.array([half_life_ms]))
        for at, n, found in zip(at_ms.tolist(), whole[0].tolist(), scaled[0].tolist(), strict=True):
            exact = Decimal(2) ** (Decimal(at) / half_life_ms - n) * Decimal("0.75")
            assert abs(Decimal(found) / exact - 1) < Decimal("9e-7")


def test_zero_weights_and_infinite_half_lives_have_no_frame() -> None:
    at_ms = np.array([5_000_000, 6_000_000])
    assert decay.frames(at_ms, np.array([0, 1], np.float32), np.array([1000]))[0].tolist() == [[0, 6000]]
    whole, scaled = decay.frames(at_ms, np.array([0.5, 1], np.float32), np.array([0, 1000]))
    assert whole.tolist() == [[0, 0], [5000, 6000]] and scaled.tolist() == [[0.5, 1], [0.5, 1]]


def test_half_lives() -> None:
    assert decay.whole_ms([60.0, 0.001, math.inf]) == (60_000, 1, 0)
    with pytest.raises(ValueError, match="at least 1 ms"):
        decay.whole_ms([0.0001])
