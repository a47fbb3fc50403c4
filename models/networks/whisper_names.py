"""The tensors of a Whisper checkpoint, by transformers' names, and which of them the network here is made of."""

from collections.abc import Mapping

import torch
from torch import Tensor

from models.networks.whisper import WhisperShape

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
