"""CTranslate2's `model.bin` (version 6) of a Whisper model -> tensors under Hugging Face's names.

The file is plain: little-endian counts, names and raw arrays, no code. Layout, from CTranslate2's
`python/ctranslate2/specs/model_spec.py`: u32 version; string spec; u32 revision; u32 count; then per array a
string name, u8 rank, u32 sizes, u8 dtype, u32 bytes, data; then u32 count of aliases, pairs of strings.
A string is u16 length, bytes, NUL.
"""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.errors import WeightsMismatch

_FLOAT16, _FLOAT32 = 4, 0
_DTYPES: dict[int, np.dtype[Any]] = {
    _FLOAT32: np.dtype("<f4"),
    _FLOAT16: np.dtype("<f2"),
    1: np.dtype("i1"),
    2: np.dtype("<i2"),
}


def read_arrays(path: Path, *parts: Path) -> dict[str, Tensor]:
    """All arrays of the file by CTranslate2's names; `parts` follow on `path`, where a file was cut up.

    Raises WeightsMismatch if it is not such a file.
    """
    data = b"".join(part.read_bytes() for part in (path, *parts))
    reader = _Reader(data)
    try:
        if (version := reader.number("I")) != 6:
            raise WeightsMismatch(
                f"{path} is CTranslate2 version {version}, not 6; install the pinned package"
            )
        reader.text()
        reader.number("I")
        return dict(reader.array() for _ in range(reader.number("I")))
    except (struct.error, ValueError, KeyError) as error:
        raise WeightsMismatch(
            f"{path} is not a CTranslate2 model ({error}); install its package again"
        ) from error


class _Reader:
    """A cursor over the file's bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, kind: str) -> int:
        value: int = struct.unpack_from("<" + kind, self._data, self._at)[0]
        self._at += struct.calcsize("<" + kind)
        return value

    def text(self) -> str:
        size = self.number("H")
        self._at += size
        return self._data[self._at - size : self._at - 1].decode("utf-8")

    def array(self) -> tuple[str, Tensor]:
        name = self.text()
        shape = [self.number("I") for _ in range(self.number("B"))]
        dtype, size = _DTYPES[self.number("B")], self.number("I")
        array = np.frombuffer(self._data, dtype, size // dtype.itemsize, self._at).reshape(shape)
        self._at += size
        return name, torch.from_numpy(array.copy())


def whisper_tensors(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whisper under the names of transformers' `WhisperForConditionalGeneration` (its output layer is tied).

    Raises WeightsMismatch if the arrays are not those of a Whisper model.
    """
    try:
        found = _embeddings(arrays)
        for side in ("encoder", "decoder"):
            layer = 0
            while f"{side}/layer_{layer}/ffn/linear_0/weight" in arrays:
                found |= _layer(arrays, side, layer)
                layer += 1
    except KeyError as error:
        raise WeightsMismatch(f"the CTranslate2 model lacks {error}: it is no Whisper") from error
    return found


def _embeddings(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {
        "model.decoder.embed_tokens.weight": arrays["decoder/embeddings/weight"],
        "model.decoder.embed_positions.weight": arrays["decoder/position_encodings/encodings"],
        "model.encoder.embed_positions.weight": arrays["encoder/position_encodings/encodings"],
    }
    for side in ("encoder", "decoder"):
        found |= _norm(arrays, f"{side}/layer_norm", f"model.{side}.layer_norm")
    for conv in ("conv1", "conv2"):
        for part in ("weight", "bias"):
            found[f"model.encoder.{conv}.{part}"] = arrays[f"encoder/{conv}/{part}"]
    return found


def _layer(arrays: Mapping[str, Tensor], side: str, layer: int) -> dict[str, Tensor]:
    ours, theirs = f"model.{side}.layers.{layer}", f"{side}/layer_{layer}"
    found = _attention(arrays, f"{theirs}/self_attention", f"{ours}.self_attn")
    if side == "decoder":
        found |= _attention(arrays, f"{theirs}/attention", f"{ours}.encoder_attn")
    found |= _norm(arrays, f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm")
    for n, name in enumerate(("fc1", "fc2")):
        for part in ("weight", "bias"):
            found[f"{ours}.{name}.{part}"] = arrays[f"{theirs}/ffn/linear_{n}/{part}"]
    return found


def _attention(arrays: Mapping[str, Tensor], theirs: str, ours: str) -> dict[str, Tensor]:
    """Self-attention holds q, k, v in one matrix; attention to the encoder q, then k and v in one."""
    crossed = f"{theirs}/linear_2/weight" in arrays
    out = 2 if crossed else 1
    found = _norm(arrays, f"{theirs}/layer_norm", f"{ours}_layer_norm")
    for part in ("weight", "bias"):
        stacked = torch.cat([arrays[f"{theirs}/linear_{n}/{part}"] for n in range(out)])
        q, k, v = stacked.chunk(3)
        found |= {f"{ours}.q_proj.{part}": q, f"{ours}.v_proj.{part}": v}
        if part == "weight":
            found[f"{ours}.k_proj.weight"] = k
        elif k.abs().max() > 0:
            raise WeightsMismatch(f"{theirs} has a bias on its keys, which Whisper has not")
        found[f"{ours}.out_proj.{part}"] = arrays[f"{theirs}/linear_{out}/{part}"]
    return found


def _norm(arrays: Mapping[str, Tensor], theirs: str, ours: str) -> dict[str, Tensor]:
    return {f"{ours}.weight": arrays[f"{theirs}/gamma"], f"{ours}.bias": arrays[f"{theirs}/beta"]}
