"""Whisper, encoder and decoder, with a preallocated key-value cache. Tensors in, tensors out.

Own code rather than transformers': it loads in a tenth of the time, pays for a quarter of the silence that fills
short windows, keeps rows of a batch independent of each other, and lets others take the places of finished ones. The
same network to 1e-4 (tests compare them). Source: Radford et al., 2022; transformers' Whisper for the names.
B rows, T mel frames, P positions of sound, D width, H heads, S decoded positions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from models.networks.packed import PackedLinear, can_pack, pack_linears
from models.networks.silence import Sampled, sampled, sampled_positions
from models.networks.whisper_cache import Cache, LayerCache, Places


@dataclass(frozen=True, slots=True)
class WhisperShape:
    """Sizes of one Whisper; the defaults are those of tiny.en."""

    width: int = 384
    mels: int = 80
    vocabulary: int = 51_864
    encoder_layers: int = 4
    decoder_layers: int = 4
    encoder_heads: int = 6
    decoder_heads: int = 6
    encoder_inner: int = 1536
    decoder_inner: int = 1536
    positions: int = 1500
    longest_text: int = 448


class _Attention(nn.Module):
    """Projections of one attention; queries, keys and values where they share their input."""

    def __init__(self, width: int, heads: int, crossed: bool) -> None:
        super().__init__()
        self._heads = heads
        if crossed:
            self.q = nn.Linear(width, width)
            self.kv = nn.Linear(width, 2 * width)
        else:
            self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def split(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """(B, S, parts * D) -> `parts` of (B, H, S, D / H)."""
        rows, steps, _ = x.shape
        return x.view(rows, steps, parts, self._heads, -1).permute(2, 0, 3, 1, 4).unbind(0)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool = False) -> Tensor:
        """Heads (B, H, S, D / H) -> (B, S, D)."""
        if q.device.type == "cpu" and not causal and (q.shape[2] == 1 or q.dtype == torch.bfloat16):
            y = torch.cat([_attend_once(part, k, v, mask) for part in torch.split(q, _QUERIES, 2)], 2)
        else:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        rows, _, steps, _ = y.shape
        return self.out(y.transpose(1, 2).reshape(rows, steps, -1))  # type: ignore[no-any-return]


# So many at a time that their scores stay in the processor's cache.
_QUERIES = 256


def _attend_once(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention as two products. On a CPU in bf16 torch's fused one takes eight times as long for one query (2.8
    against 0.33 ms for 8 rows of 500 positions) and a quarter more for all of a row's; in fp32 one is as good."""
    scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2))
    if mask is not None:
        scores += mask
    return torch.matmul(scores.softmax(-1), v)


class _EncoderLayer(nn.Module):
    def __init__(self, shape: WhisperShape) -> None:
        super().__init__()
        self.attention = _Attention(shape.width, shape.encoder_heads, crossed=False)
        self.attention_norm = nn.LayerNorm(shape.width)
        self.inner = nn.Linear(shape.width, shape.encoder_inner)
        self.outer = nn.Linear(shape.encoder_inner, shape.width)
        self.inner_norm = nn.LayerNorm(shape.width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = self.attention.split(self.attention.qkv(self.attention_norm(x)), 3)
        x = x + self.attention.attend(q, k, v, mask)
        return x + self.outer(F.gelu(self.inner(self.inner_norm(x))))  # type: ignore[no-any-return]


class _DecoderLayer(nn.Module):
    def __init__(self, shape: WhisperShape) -> None:
        super().__init__()
        self.attention = _Attention(shape.width, shape.decoder_heads, crossed=False)
        self.attention_norm = nn.LayerNorm(shape.width)
        self.crossed = _Attention(shape.width, shape.decoder_heads, crossed=True)
        self.crossed_norm = nn.LayerNorm(shape.width)
        self.inner = nn.Linear(shape.width, shape.decoder_inner)
        self.outer = nn.Linear(shape.decoder_inner, shape.width)
        self.inner_norm = nn.LayerNorm(shape.width)

    def first(self, x: Tensor, cache: LayerCache, audio_mask: Tensor | None) -> Tensor:
        """The prompt (B, n, D), into an empty cache."""
        q, k, v = self.attention.split(self.attention.qkv(self.attention_norm(x)), 3)
        cache.k[:, :, : x.shape[1]], cache.v[:, :, : x.shape[1]] = k, v
        x = x + self.attention.attend(q, k, v, None, causal=True)
        return self._listened(x, cache.audio_k, cache.audio_v, audio_mask)

    def next(self, x: Tensor, cache: LayerCache, places: Places) -> Tensor:
        """One token of each row (B, 1, D), each at its own place."""
        q, k, v = self.attention.split(self.attention.qkv(self.attention_norm(x)), 3)
        cache.k[places.rows, :, places.at] = k[:, :, 0]
        cache.v[places.rows, :, places.at] = v[:, :, 0]
        own_k, own_v = cache.k[:, :, : places.reach], cache.v[:, :, : places.reach]
        x = x + self.attention.attend(q, own_k, own_v, places.mask)
        audio_k, audio_v = cache.audio_k[:, :, : places.heard], cache.audio_v[:, :, : places.heard]
        return self._listened(x, audio_k, audio_v, places.audio_mask)

    def _listened(self, x: Tensor, audio_k: Tensor, audio_v: Tensor, audio_mask: Tensor | None) -> Tensor:
        (q,) = self.crossed.split(self.crossed.q(self.crossed_norm(x)), 1)
        x = x + self.crossed.attend(q, audio_k, audio_v, audio_mask)
        return x + self.outer(F.gelu(self.inner(self.inner_norm(x))))  # type: ignore[no-any-return]


class Whisper(nn.Module):
    """Log-mel frames -> text tokens, one step at a time. Call `encode`, `start`, `prompt`, then `step` repeatedly."""

    def __init__(self, shape: WhisperShape) -> None:
        super().__init__()
        self.shape = shape
        self.conv1 = nn.Conv1d(shape.mels, shape.width, 3, padding=1)
        self.conv2 = nn.Conv1d(shape.width, shape.width, 3, stride=2, padding=1)
        self.audio_positions = nn.Parameter(torch.empty(shape.positions, shape.width))
        self.encoder = nn.ModuleList(_EncoderLayer(shape) for _ in range(shape.encoder_layers))
        self.encoder_norm = nn.LayerNorm(shape.width)
        self.tokens = nn.Parameter(torch.empty(shape.vocabulary, shape.width))
        self.text_positions = nn.Parameter(torch.empty(shape.longest_text, shape.width))
        self.decoder = nn.ModuleList(_DecoderLayer(shape) for _ in range(shape.decoder_layers))
        self.decoder_norm = nn.LayerNorm(shape.width)
        self._head: PackedLinear | None = None
        self._sums: Tensor | None = None  # of the positions before each one of sound

    def pack(self) -> None:
        """Lay the weights out for this processor, where that is quicker. Nothing may be loaded or moved after it."""
        pack_linears(self)
        if can_pack(self.tokens):
            self._head = PackedLinear(self.tokens)

    def encode(
        self, mel: Tensor, frames: Sequence[int], stride: int = 1, mean: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """mel (B, M, T), T even and at most 2 * positions, each row filled up with its own silence; frames (B,), even:
        where it begins in each row. The last ten before that are silence too, unless it has no more.

        Whisper was trained on windows of 30 s, and without the silence that fills them it hears other words. It is
        all but the same from one position to the next, so one stands for `stride` of them: by the logarithm of their
        number, added to its score, attention weighs it as them. It lies amidst them, or, `mean`, its place is the mean
        of theirs.

        Gives states (B, P, D) and a mask (B, 1, 1, P) to add to scores, None if it is 0. What lies beyond a row's
        frames changes nothing in it: a row's states are those it would have alone. On a CPU each is computed alone:
        that is no slower, pays for no padding, and takes less memory.
        """
        if mel.device.type == "cpu":
            return self._encode_each(mel, frames, stride, mean)
        return self.encode_together(mel, frames, stride, mean)

    def encode_together(
        self, mel: Tensor, frames: Sequence[int], stride: int = 1, mean: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """`encode`, all rows at once: for a device that needs many to be busy."""
        x = F.gelu(self.conv1(mel))
        x = F.gelu(self.conv2(x)).transpose(1, 2)
        positions = self.shape.positions
        if min(frames) == 2 * positions:
            return self._encoded(x + self.audio_positions, None), None
        what = sampled(frames, positions, stride)
        rows = torch.arange(len(frames), device=x.device)[:, None]
        x = x[rows, torch.from_numpy(what.heard).to(x.device)]
        x = x + (self._mean_positions(what) if mean else self._middle_positions(what))
        mask = torch.from_numpy(what.weights).to(x.device, x.dtype)[:, None, None]
        return self._encoded(x, mask), mask

    def _middle_positions(self, what: Sampled) -> Tensor:
        return self.audio_positions[torch.from_numpy((what.starts + what.ends) // 2).to(self.tokens.device)]

    def _mean_positions(self, what: Sampled) -> Tensor:
        """(B, P, D): of the positions that each stands for. The quick ones among their waves cancel out, as they do in
        what attends to them all; at one of them they would not."""
        if self._sums is None:
            self._sums = F.pad(self.audio_positions.double().cumsum(0), (0, 0, 1, 0))
        starts, ends = (torch.from_numpy(one).to(self._sums.device) for one in (what.starts, what.ends))
        means = (self._sums[ends] - self._sums[starts]) / (ends - starts)[..., None]
        return means.to(self.audio_positions.dtype)

    def _encode_each(
        self, mel: Tensor, frames: Sequence[int], stride: int, mean: bool
    ) -> tuple[Tensor, Tensor | None]:
        positions = self.shape.positions
        longest = max(sampled_positions(one, positions, stride) for one in frames)
        states = mel.new_zeros((len(frames), longest, self.shape.width))
        mask = mel.new_full((len(frames), 1, 1, longest), -math.inf)
        for row, one in enumerate(frames):
            alone, weights = self.encode_together(mel[row : row + 1, :, :one], [one], stride, mean)
            size = alone.shape[1]
            states[row, :size] = alone[0]
            mask[row, :, :, :size] = 0.0 if weights is None else weights[0]
        return states, mask if bool((mask != 0.0).any()) else None

    def _encoded(self, x: Tensor, mask: Tensor | None) -> Tensor:
        for layer in self.encoder:
            x = layer(x, mask)
        return self.encoder_norm(x)  # type: ignore[no-any-return]

    def start(self, states: Tensor, mask: Tensor | None, steps: int) -> Cache:
        """An empty cache for up to `steps` tokens over the recordings that `encode` gave."""
        rows, _, width = states.shape
        heads = self.shape.decoder_heads
        own = (rows, heads, min(steps, self.shape.longest_text), width // heads)
        layers = []
        for layer in self.decoder:
            assert isinstance(layer, _DecoderLayer)
            k, v = layer.crossed.split(layer.crossed.kv(states), 2)
            # Zeros: what a row must not see is masked, and what is not a number would show through.
            layers.append(
                LayerCache(states.new_zeros(own), states.new_zeros(own), k.contiguous(), v.contiguous())
            )
        return Cache(layers, mask, torch.zeros(rows, dtype=torch.int64, device=states.device))

    def room(self, rows: int) -> Cache:
        """An empty cache for any recordings and texts, to `put` them in: (B, H, S or P, D / H) at their largest."""
        heads, depth = self.shape.decoder_heads, self.shape.width // self.shape.decoder_heads
        own, audio = (rows, heads, self.shape.longest_text, depth), (rows, heads, self.shape.positions, depth)
        zeros = self.tokens.new_zeros
        layers = [LayerCache(zeros(own), zeros(own), zeros(audio), zeros(audio)) for _ in self.decoder]
        at = torch.zeros(rows, dtype=torch.int64, device=self.tokens.device)
        return Cache(layers, zeros(rows, 1, 1, self.shape.positions), at)

    def prompt(self, tokens: Tensor, cache: Cache) -> Tensor:
        """Put the first tokens (B, n) into an empty cache -> logits (B, n, vocabulary), float32."""
        x = self.tokens[tokens] + self.text_positions[: tokens.shape[1]]
        for layer, layer_cache in zip(self.decoder, cache.layers, strict=True):
            assert isinstance(layer, _DecoderLayer)
            x = layer.first(x, layer_cache, cache.audio_mask)
        cache.at += tokens.shape[1]
        return self._logits(x)

    def step(
        self, tokens: Tensor, cache: Cache, reach: int | None = None, heard: int | None = None
    ) -> Tensor:
        """Append one token to each row (B,), each at its own place -> logits (B, vocabulary), float32.

        `reach`: more tokens than any row that matters has; `heard`: no fewer positions than any of them has. None: all
        there is room for, so that every tensor has the same shape at every step. A row that is full stays so.
        """
        size = cache.layers[0].k.shape[2]
        reach, heard = (
            size if reach is None else min(reach, size),
            cache.positions if heard is None else heard,
        )
        at = cache.at
        hidden = torch.arange(reach, device=at.device) > at[:, None]
        places = Places(
            torch.arange(at.shape[0], device=at.device),
            at,
            self.tokens.new_zeros(hidden.shape).masked_fill_(hidden, -math.inf)[:, None, None],
            reach,
            None if cache.audio_mask is None else cache.audio_mask[..., :heard],
            heard,
        )
        x = self.tokens[tokens[:, None]] + self.text_positions[at][:, None]
        for layer, layer_cache in zip(self.decoder, cache.layers, strict=True):
            assert isinstance(layer, _DecoderLayer)
            x = layer.next(x, layer_cache, places)
        at.add_(1).clamp_(max=size - 1)
        return self._logits(x[:, 0])

    def _logits(self, x: Tensor) -> Tensor:
        x = self.decoder_norm(x)
        return (F.linear(x, self.tokens) if self._head is None else self._head(x)).float()
