"""A small network that hears spoken digits: log-mel frames -> one of ten digits, or a blank, every 40 ms.

Two convolutions of stride 2, then residual ones with growing gaps (Bai et al., An Empirical Evaluation of Generic
Convolutional and Recurrent Networks for Sequence Modeling, 2018): 0.41 M parameters, a view of 1.3 s either side.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.media.mel import FRAMES_PER_S, HOP, mel_power

MELS = 40
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
BLANK = len(WORDS)
STRIDE = 4
_WIDTH, _KERNEL, _GAPS = 96, 5, (1, 2, 4, 8, 1, 2, 4)
_RANGE = 4.0  # decades below the loudest that are told apart

F32 = NDArray[np.float32]


def features(samples: F32) -> F32:
    """Samples (n,) at 16 kHz -> (40, frames) of `from_power`, 100 frames a second."""
    return from_power(mel_power(samples, max(1, -(-samples.size // HOP)), MELS))


def from_power(power: F32) -> F32:
    """Mel power (40, frames) -> its logarithm between -1 and 1, four decades below the loudest frame: no gain."""
    log = np.log10(np.maximum(power, 1e-10))
    return np.asarray(np.maximum(log - log.max(), -_RANGE) * (2 / _RANGE) + 1, np.float32)


class _Block(nn.Module):
    def __init__(self, gap: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(_WIDTH)
        self.mix = nn.Conv1d(_WIDTH, _WIDTH, _KERNEL, padding=gap * (_KERNEL // 2), dilation=gap)
        self.dropout = nn.Dropout(0.15)

    def forward(self, hidden: Tensor) -> Tensor:
        found: Tensor = hidden + self.dropout(torch.relu(self.mix(self.norm(hidden))))
        return found


class DigitNet(nn.Module):
    """(B, 40, T) -> logits (B, ceil(T / 4), 11). Frames beyond a row's own are -1, as silence."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(MELS, _WIDTH, 5, stride=2, padding=2)
        self.second = nn.Conv1d(_WIDTH, _WIDTH, 5, stride=2, padding=2)
        self.blocks = nn.ModuleList(_Block(gap) for gap in _GAPS)
        self.norm = nn.BatchNorm1d(_WIDTH)
        self.out = nn.Linear(_WIDTH, len(WORDS) + 1)

    def forward(self, mel: Tensor) -> Tensor:
        hidden = torch.relu(self.second(torch.relu(self.first(mel))))
        for block in self.blocks:
            hidden = block(hidden)
        logits: Tensor = self.out(self.norm(hidden).transpose(1, 2))
        return logits


def steps(frames: int) -> int:
    """How many rows of logits a recording of so many frames gives."""
    return -(-frames // STRIDE)


SECONDS_PER_STEP = STRIDE / FRAMES_PER_S
