"""Whisper, encoder and decoder, with a preallocated key-value cache. Tensors in, tensors out.

Own code rather than transformers': it loads in a tenth of the time, pays for a quarter of the silence that fills
short windows, keeps rows of a batch independent of each other, and drops finished rows. The same network to 1e-4
(tests compare them). Source: Radford et al., 2022; transformers' Whisper for the names.
B rows, T mel frames, P positions of sound, D width, H heads, S decoded positions.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own convention)


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


@dataclass(slots=True)
class _LayerCache:
    """Keys and values of one decoder layer: own (B, H, S, D / H), filled as it goes, and the recording's."""

    k: Tensor
    v: Tensor
    audio_k: Tensor
    audio_v: Tensor


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

    def forward(self, x: Tensor, cache: _LayerCache, at: int, audio_mask: Tensor | None) -> Tensor:
        q, k, v = self.attention.split(self.attention.qkv(self.attention_norm(x)), 3)
        end = at + x.shape[1]
        cache.k[:, :, at:end], cache.v[:, :, at:end] = k, v
        own = self.attention.attend(q, cache.k[:, :, :end], cache.v[:, :, :end], None, causal=x.shape[1] > 1)
        x = x + own
        (q,) = self.crossed.split(self.crossed.q(self.crossed_norm(x)), 1)
        x = x + self.crossed.attend(q, cache.audio_k, cache.audio_v, audio_mask)
        return x + self.outer(F.gelu(self.inner(self.inner_norm(x))))  # type: ignore[no-any-return]


@dataclass(slots=True)
class Cache:
    """What decoding B recordings has so far. `at`: how many tokens are in it."""

    layers: list[_LayerCache]
    audio_mask: Tensor | None  # (B, 1, 1, P), added to the scores
    at: int = 0

    def keep(self, rows: Tensor) -> None:
        """Drop all rows but these (indices, on the device)."""
        for layer in self.layers:
            layer.k, layer.v = layer.k[rows], layer.v[rows]
            layer.audio_k, layer.audio_v = layer.audio_k[rows], layer.audio_v[rows]
        if self.audio_mask is not None:
            self.audio_mask = self.audio_mask[rows]


class Whisper(nn.Module):
    """Log-mel frames -> text tokens, one step at a time. Call `encode`, `start`, then `step` repeatedly."""

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

    def encode(self, mel: Tensor, frames: Sequence[int], stride: int = 1) -> tuple[Tensor, Tensor | None]:
        """mel (B, M, T), T even and at most 2 * positions, each row filled up with its own silence; frames (B,), even:
        where it begins in each row. The last ten before that are silence too, unless it has no more.

        Whisper was trained on windows of 30 s, and without the silence that fills them it hears other words. It is
        all but the same from one position to the next, so every `stride`-th stands for its neighbours: by the
        logarithm of their number, added to its score, attention weighs it as them.

        Gives states (B, P, D) and a mask (B, 1, 1, P) to add to scores, None if it is 0. What lies beyond a row's
        frames changes nothing in it: a row's states are those it would have alone. On a CPU each is computed alone:
        that is no slower, pays for no padding, and takes less memory.
        """
        if mel.device.type == "cpu":
            return self._encode_each(mel, frames, stride)
        return self.encode_together(mel, frames, stride)

    def encode_together(
        self, mel: Tensor, frames: Sequence[int], stride: int = 1
    ) -> tuple[Tensor, Tensor | None]:
        """`encode`, all rows at once: for a device that needs many to be busy."""
        x = F.gelu(self.conv1(mel))
        x = F.gelu(self.conv2(x)).transpose(1, 2)
        positions = self.shape.positions
        if min(frames) == 2 * positions:
            return self._encoded(x + self.audio_positions, None), None
        kept, heard, weights = sampled(frames, positions, stride)
        rows = torch.arange(len(frames), device=x.device)[:, None]
        x = x[rows, torch.from_numpy(heard).to(x.device)]
        x = x + self.audio_positions[torch.from_numpy(kept).to(x.device)]
        mask = torch.from_numpy(weights).to(x.device, x.dtype)[:, None, None]
        return self._encoded(x, mask), mask

    def _encode_each(self, mel: Tensor, frames: Sequence[int], stride: int) -> tuple[Tensor, Tensor | None]:
        positions = self.shape.positions
        longest = max(sampled_positions(one, positions, stride) for one in frames)
        states = mel.new_zeros((len(frames), longest, self.shape.width))
        mask = mel.new_full((len(frames), 1, 1, longest), -math.inf)
        for row, one in enumerate(frames):
            alone, weights = self.encode_together(mel[row : row + 1, :, :one], [one], stride)
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
            layers.append(
                _LayerCache(states.new_empty(own), states.new_empty(own), k.contiguous(), v.contiguous())
            )
        return Cache(layers, mask)

    def step(self, tokens: Tensor, cache: Cache) -> Tensor:
        """Append tokens (B, n), n > 1 only at the start -> logits (B, n, vocabulary), float32."""
        end = cache.at + tokens.shape[1]
        x = self.tokens[tokens] + self.text_positions[cache.at : end]
        for layer, layer_cache in zip(self.decoder, cache.layers, strict=True):
            x = layer(x, layer_cache, cache.at, cache.audio_mask)
        cache.at = end
        return F.linear(self.decoder_norm(x), self.tokens).float()


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


_LAYER_PARTS = {
    "self_attn.out_proj": "attention.out",
    "self_attn_layer_norm": "attention_norm",
    "encoder_attn.out_proj": "crossed.out",
    "encoder_attn.q_proj": "crossed.q",
    "encoder_attn_layer_norm": "crossed_norm",
    "fc1": "inner",
    "fc2": "outer",
    "final_layer_norm": "inner_norm",
}
_FUSED = {
    "self_attn": ("attention.qkv", ("q_proj", "k_proj", "v_proj")),
    "encoder_attn": ("crossed.kv", ("k_proj", "v_proj")),
}


def from_hugging_face(tensors: Mapping[str, Tensor], shape: WhisperShape) -> dict[str, Tensor]:
    """transformers' names and tensors (see `expected_shapes`) -> this module's state dict."""
    found = {
        "conv1.weight": tensors["model.encoder.conv1.weight"],
        "conv1.bias": tensors["model.encoder.conv1.bias"],
        "conv2.weight": tensors["model.encoder.conv2.weight"],
        "conv2.bias": tensors["model.encoder.conv2.bias"],
        "audio_positions": tensors["model.encoder.embed_positions.weight"],
        "text_positions": tensors["model.decoder.embed_positions.weight"],
        "tokens": tensors["model.decoder.embed_tokens.weight"],
    }
    for side, layers in (("encoder", shape.encoder_layers), ("decoder", shape.decoder_layers)):
        for part in ("weight", "bias"):
            found[f"{side}_norm.{part}"] = tensors[f"model.{side}.layer_norm.{part}"]
            for n in range(layers):
                prefix = f"model.{side}.layers.{n}"
                for theirs, ours in _LAYER_PARTS.items():
                    if side == "decoder" or "encoder_attn" not in theirs:
                        found[f"{side}.{n}.{ours}.{part}"] = tensors[f"{prefix}.{theirs}.{part}"]
                for attention, (ours, names) in _FUSED.items():
                    if side == "decoder" or attention == "self_attn":
                        rows = [_projection(tensors, f"{prefix}.{attention}", name, part) for name in names]
                        found[f"{side}.{n}.{ours}.{part}"] = torch.cat(rows)
    return found


def _projection(tensors: Mapping[str, Tensor], attention: str, name: str, part: str) -> Tensor:
    if (name, part) == ("k_proj", "bias"):  # keys have none: it would cancel in the softmax
        return torch.zeros_like(tensors[f"{attention}.q_proj.bias"])
    return tensors[f"{attention}.{name}.{part}"]


def expected_shapes(shape: WhisperShape) -> dict[str, tuple[int, ...]]:
    """Every tensor of a checkpoint of these sizes in transformers' names (the tied output layer left out)."""
    width = shape.width
    found: dict[str, tuple[int, ...]] = {
        "model.encoder.conv1.weight": (width, shape.mels, 3),
        "model.encoder.conv1.bias": (width,),
        "model.encoder.conv2.weight": (width, width, 3),
        "model.encoder.conv2.bias": (width,),
        "model.encoder.embed_positions.weight": (shape.positions, width),
        "model.decoder.embed_positions.weight": (shape.longest_text, width),
        "model.decoder.embed_tokens.weight": (shape.vocabulary, width),
    }
    sides = (
        ("encoder", shape.encoder_layers, shape.encoder_inner, ("self_attn",)),
        ("decoder", shape.decoder_layers, shape.decoder_inner, ("self_attn", "encoder_attn")),
    )
    for side, layers, inner, attentions in sides:
        norms = [f"model.{side}.layer_norm"]
        for n in range(layers):
            prefix = f"model.{side}.layers.{n}"
            norms += [f"{prefix}.final_layer_norm", *(f"{prefix}.{name}_layer_norm" for name in attentions)]
            found |= {f"{prefix}.fc1.weight": (inner, width), f"{prefix}.fc1.bias": (inner,)}
            found |= {f"{prefix}.fc2.weight": (width, inner), f"{prefix}.fc2.bias": (width,)}
            for name in attentions:
                for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
                    found[f"{prefix}.{name}.{part}.weight"] = (width, width)
                    if part != "k_proj":
                        found[f"{prefix}.{name}.{part}.bias"] = (width,)
        for norm in norms:
            found |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    return found
