"""Which positions of the silence that fills a window of 30 s are computed, and what each of them weighs. NumPy only."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def sampled_positions(frames: int, positions: int, stride: int) -> int:
    """How many of a window's positions `Whisper.encode` computes."""
    return frames // 2 + -(-(positions - frames // 2) // stride)


def sampled(
    frames: Sequence[int], positions: int, stride: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """For each row (B, P): which positions are kept, where the sound of each is found, what to add to its score."""
    longest = max(sampled_positions(one, positions, stride) for one in frames)
    kept = np.zeros((len(frames), longest), np.int64)
    heard = np.zeros((len(frames), longest), np.int64)
    weights = np.full((len(frames), longest), -math.inf, np.float32)
    for row, one in enumerate(frames):
        end = one // 2
        starts = np.arange(end, positions, stride)  # of runs of silence, each heard at its middle
        ends = np.minimum(starts + stride, positions)
        size = end + len(starts)
        kept[row, :size] = np.concatenate((np.arange(end), (starts + ends) // 2))
        # The last positions look beyond the row's end, where another row may have sound, or nothing at all.
        heard[row, :size] = np.minimum(kept[row, :size], end - 3) if end < positions else kept[row, :size]
        weights[row, :size] = np.concatenate((np.zeros(end), np.log(ends - starts)))
    return kept, heard, weights
