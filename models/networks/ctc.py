"""A small head with connectionist temporal classification on the first layers of Whisper, and how its answers become
words.

What Whisper's encoder makes of sound depends little on whose voice it is, so that a head on it learns words from few
speakers. The encoder stays as it is and looks at all of a recording; a convolution joins a few of its states.
Graves et al., Connectionist Temporal Classification, 2006; Yang et al., SUPERB, 2021, for heads on frozen encoders.
B rows, T log-mel frames, P = T / 4 states of width W, one every 40 ms.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from models.networks.whisper import Whisper

BLANK = 0


class FirstLayers(nn.Module):
    """Log-mel (B, T, mels) -> states (B, P, W) after some of Whisper's layers, frozen, the mean of every two.

    T is a multiple of 4, at most twice Whisper's positions. Unlike `Whisper.encode` without the silence that fills
    windows. A row's states do not depend on its padding.
    """

    def __init__(self, whisper: Whisper, layers: int) -> None:
        super().__init__()
        if not 0 < layers <= len(whisper.encoder):
            raise ValueError(f"{layers} layers of an encoder that has {len(whisper.encoder)}")
        self.mels, self.width = whisper.shape.mels, whisper.shape.width
        self._conv1, self._conv2 = whisper.conv1, whisper.conv2
        self._positions = whisper.audio_positions
        self._layers = whisper.encoder[:layers]

    @torch.no_grad()
    def forward(self, mel: Tensor, frames: Tensor) -> Tensor:
        """`frames` (B,) int64 on the CPU: the real ones of each row, a multiple of 4, at least 4."""
        x = F.gelu(self._conv1(mel.transpose(1, 2)))
        x = x * _real(frames, x.shape[2]).to(x)[:, None]  # as beyond the edge
        x = F.gelu(self._conv2(x)).transpose(1, 2)
        x = x + self._positions[: x.shape[1]]
        mask = torch.zeros((len(x), 1, 1, x.shape[1]), dtype=x.dtype)
        mask.masked_fill_(~_real(frames // 2, x.shape[1])[:, None, None], -torch.inf)
        for layer in self._layers:
            x = layer(x, mask.to(x.device))
        rows, positions, width = x.shape
        return x.view(rows, positions // 2, 2, width).mean(2)


def states_of(frames: Tensor) -> Tensor:
    """How many states so many frames give."""
    return frames // 4


@dataclass(frozen=True, slots=True)
class CtcShape:
    """Sizes. `tokens` counts the blank; `states` is their width, `width` to what it is brought first."""

    tokens: int
    states: int = 384
    width: int = 128


class CtcHead(nn.Module):
    """States (B, P, W) -> log-probabilities (B, P, tokens); nothing of a row's padding reaches it.

    `mean`, `spread` (W,): of the states that it was trained on.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, shape: CtcShape, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("mean", torch.zeros(shape.states))
        self.register_buffer("spread", torch.ones(shape.states))
        self.narrow = nn.Linear(shape.states, shape.width)
        self.dropout = nn.Dropout(dropout)
        self.join = nn.Conv1d(shape.width, shape.width, 5, padding=2)
        self.head = nn.Linear(shape.width, shape.tokens)

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """`lengths` (B,) int64 on the CPU: the real states of each row, at least one."""
        x = self.dropout(F.relu(self.narrow((states - self.mean) / self.spread)))
        x = x * _real(lengths, x.shape[1]).to(x)[..., None]
        x = F.relu(self.join(x.transpose(1, 2))).transpose(1, 2)
        return F.log_softmax(self.head(self.dropout(x)).float(), -1)


@dataclass(frozen=True, slots=True)
class Heard:
    """A row's tokens without blanks and repeats; the output at which each begins; the probability of each."""

    tokens: tuple[int, ...]
    at: tuple[int, ...]
    scores: tuple[float, ...]


def heard(log_probabilities: Tensor, lengths: Sequence[int], blank: int = BLANK) -> list[Heard]:
    """The likeliest token of every output, repeats joined, blanks dropped: (B, T, tokens) -> B rows.

    A token's score is the highest of its run.
    """
    best, tokens = log_probabilities.float().max(-1)
    shares, ids = best.exp().cpu().numpy(), tokens.cpu().numpy()
    rows = []
    for row, length in enumerate(lengths):
        found: list[tuple[int, int, float]] = []
        before = blank
        for at in range(length):
            token, share = int(ids[row, at]), float(shares[row, at])
            if token != blank and token != before:
                found.append((token, at, share))
            elif token != blank:
                found[-1] = (token, found[-1][1], max(found[-1][2], share))
            before = token
        rows.append(
            Heard(*(tuple(part) for part in zip(*found, strict=True))) if found else Heard((), (), ())
        )
    return rows


def _real(lengths: Tensor, frames: int) -> Tensor:
    return torch.arange(frames)[None] < lengths[:, None]
