"""Which positions of the silence that fills a window of 30 s are computed, and what each of them weighs. NumPy only."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Sampled:
    """For each row and what is computed of it (B, P): the positions [starts, ends) of the window that it stands for,
    where their sound is found, what to add to its score (minus infinity: it fills up the row)."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    heard: NDArray[np.int64]
    weights: NDArray[np.float32]


def sampled_positions(frames: int, positions: int, stride: int) -> int:
    """How many of a window's positions `Whisper.encode` computes."""
    return frames // 2 + -(-(positions - frames // 2) // stride)


def sampled(frames: Sequence[int], positions: int, stride: int) -> Sampled:
    """Each position of sound by itself, and of the silence after it runs of `stride`."""
    longest = max(sampled_positions(one, positions, stride) for one in frames)
    shape = (len(frames), longest)
    starts, heard = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    ends, weights = np.ones(shape, np.int64), np.full(shape, -math.inf, np.float32)
    for row, one in enumerate(frames):
        end = one // 2
        size = sampled_positions(one, positions, stride)
        starts[row, :size] = np.concatenate((np.arange(end), np.arange(end, positions, stride)))
        ends[row, :size] = np.append(starts[row, 1:size], positions)
        # The last positions look beyond the row's end, where another row may have sound, or nothing at all.
        heard[row, :size] = np.minimum(starts[row, :size], end - 3 if end < positions else end)
        weights[row, :size] = np.log(ends[row, :size] - starts[row, :size])
    return Sampled(starts, ends, heard, weights)
