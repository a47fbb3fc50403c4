"""A small network of speech with connectionist temporal classification, and how its answers become words.

Two-dimensional convolutions see a few frames and bands at a time, so that what they find does not depend on how high
a voice is; a bidirectional GRU joins frames; each quarter of the frames gets a token or the blank.
Graves et al., Connectionist Temporal Classification, 2006.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

BLANK = 0
_SHORTENS = (2, 1, 2)  # frames for one, by convolution


@dataclass(frozen=True, slots=True)
class CtcShape:
    """Sizes. `tokens` counts the blank; `channels` of the three convolutions."""

    bands: int
    tokens: int
    channels: tuple[int, int, int] = (16, 32, 48)
    hidden: int = 96
    layers: int = 2

    @property
    def bands_left(self) -> int:
        """How many bands remain after three halvings, each rounded up."""
        return -(-self.bands // 8)


class ConvGruCtc(nn.Module):
    """Features (B, T, bands) -> log-probabilities (B, ceil(T / 4), tokens).

    A row's answer does not depend on its padding: what lies behind its length is zero after each convolution, as
    beyond the edge, and the GRU does not see it.
    """

    def __init__(self, shape: CtcShape, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        sizes = tuple(zip((1, *shape.channels[:-1]), shape.channels, _SHORTENS, strict=True))
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=(shortens, 2), padding=1, bias=False) for a, b, shortens in sizes
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for _, b, _ in sizes)
        width = 2 * shape.hidden
        self.narrow = nn.Linear(shape.channels[-1] * shape.bands_left, width)
        self.dropout = nn.Dropout(dropout)
        self.gru = nn.GRU(
            width,
            shape.hidden,
            shape.layers,
            batch_first=True,
            bidirectional=True,
            dropout=dropout if shape.layers > 1 else 0.0,
        )
        self.head = nn.Linear(width, shape.tokens)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """`lengths` (B,) int64 on the CPU: the real frames of each row, at least one."""
        x, left = features.unsqueeze(1), lengths
        for convolution, norm, shortens in zip(self.convolutions, self.norms, _SHORTENS, strict=True):
            x = nn.functional.relu(norm(convolution(x)))
            left = (left + shortens - 1) // shortens
            x = x * _real(left, x.shape[2]).to(x)[:, None, :, None]
        rows, _, frames, _ = x.shape
        x = nn.functional.relu(self.narrow(x.permute(0, 2, 1, 3).reshape(rows, frames, -1)))
        x = self.dropout(x)
        packed = pack_padded_sequence(x, left, batch_first=True, enforce_sorted=False)
        joined, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=frames)
        return nn.functional.log_softmax(self.head(self.dropout(joined + x)).float(), -1)


def outputs_of(frames: int) -> int:
    """How many outputs so many frames give: halved twice, rounded up."""
    return ((frames + 1) // 2 + 1) // 2


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
