"""What Whisper's decoder remembers of rows side by side: keys and values, each row at its own pace.

B rows, P positions of sound, D width, H heads, S decoded positions.
"""

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(slots=True)
class LayerCache:
    """Keys and values of one decoder layer: own (B, H, S, D / H), filled as it goes, and the recording's."""

    k: Tensor
    v: Tensor
    audio_k: Tensor
    audio_v: Tensor


@dataclass(frozen=True, slots=True)
class Places:
    """Where the next token of each row goes (B,), and what it may see: `reach` tokens but the masked, `heard` positions
    of sound."""

    rows: Tensor
    at: Tensor
    mask: Tensor
    reach: int
    audio_mask: Tensor | None
    heard: int


@dataclass(slots=True)
class Cache:
    """What decoding B recordings has so far, each at its own pace. `at` (B,): how many tokens of each are in it."""

    layers: list[LayerCache]
    audio_mask: Tensor | None  # (B, 1, 1, P), added to the scores; None: 0
    at: Tensor

    @property
    def positions(self) -> int:
        """P, of sound: the most that a row can have."""
        return self.layers[0].audio_k.shape[2]

    def keep(self, rows: Tensor) -> None:
        """Drop all rows but these (indices, on the device)."""
        for layer in self.layers:
            layer.k, layer.v = layer.k[rows], layer.v[rows]
            layer.audio_k, layer.audio_v = layer.audio_k[rows], layer.audio_v[rows]
        self.at = self.at[rows]
        if self.audio_mask is not None:
            self.audio_mask = self.audio_mask[rows]

    def part(self, rows: int, positions: int) -> "Cache":
        """The first rows, with room for fewer positions of sound, in the same memory."""
        layers = [
            LayerCache(
                one.k[:rows],
                one.v[:rows],
                one.audio_k[:rows, :, :positions],
                one.audio_v[:rows, :, :positions],
            )
            for one in self.layers
        ]
        mask = None if self.audio_mask is None else self.audio_mask[:rows, ..., :positions]
        return Cache(layers, mask, self.at[:rows])

    def put(self, rows: Tensor, other: "Cache") -> None:
        """Others in the place of these rows (indices, on the device), which are forgotten. In place: no tensor of this
        cache moves. `other` has no more steps or positions than this one."""
        steps, positions = other.layers[0].k.shape[2], other.positions
        for layer, given in zip(self.layers, other.layers, strict=True):
            layer.k[rows, :, :steps], layer.v[rows, :, :steps] = given.k, given.v
            layer.audio_k[rows, :, :positions] = given.audio_k
            layer.audio_v[rows, :, :positions] = given.audio_v
        self.at[rows] = other.at
        if self.audio_mask is None:
            if other.audio_mask is None and positions == self.positions:
                return
            self.audio_mask = self.layers[0].k.new_zeros((self.at.shape[0], 1, 1, self.positions))
        self.audio_mask[rows, :, :, positions:] = -math.inf
        self.audio_mask[rows, :, :, :positions] = 0.0 if other.audio_mask is None else other.audio_mask
