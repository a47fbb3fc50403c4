"""The parts of an ONNX file that a known network needs: its operations in order and its fp32 arrays. Runs nothing.

An ONNX file is a Protocol Buffers message: tagged fields, numbers as varints. Read here are ModelProto.graph (7);
GraphProto.node (1) and initializer (5); NodeProto.input (1), op_type (4) and attribute (5); AttributeProto.name (1)
and ints (8); TensorProto.dims (1), data_type (2), name (8) and raw_data (9).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.errors import WeightsMismatch

_FLOAT32 = 1


@dataclass(frozen=True, slots=True)
class Operation:
    """One node: its kind, the names of its inputs, and its attributes that are lists of whole numbers."""

    kind: str
    inputs: tuple[str, ...]
    numbers: dict[str, tuple[int, ...]]


def read_onnx(path: Path) -> tuple[list[Operation], dict[str, Tensor]]:
    """Operations in the file's order, and fp32 arrays by name. Raises WeightsMismatch if it is not such a file."""
    try:
        graph = next(value for field, value in _fields(path.read_bytes()) if field == 7)
        parts = list(_fields(_bytes(graph)))
        operations = [_operation(_bytes(value)) for field, value in parts if field == 1]
        arrays = [_array(_bytes(value)) for field, value in parts if field == 5]
    except (StopIteration, IndexError, ValueError, TypeError) as error:
        raise WeightsMismatch(f"{path} is not an ONNX model ({error}); install its package again") from error
    return operations, {name: tensor for name, tensor in arrays if tensor is not None}


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"field of kind {kind} at byte {at}")
        if at + size > len(data):
            raise ValueError("it ends early")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number has no end")


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise TypeError("a message was expected")
    return value


def _operation(data: bytes) -> Operation:
    inputs: list[str] = []
    kind = ""
    numbers: dict[str, tuple[int, ...]] = {}
    for field, value in _fields(data):
        if field == 1:
            inputs.append(_bytes(value).decode())
        elif field == 4:
            kind = _bytes(value).decode()
        elif field == 5:
            said = list(_fields(_bytes(value)))
            name = next(_bytes(part).decode() for number, part in said if number == 1)
            numbers[name] = tuple(_ints(said))
    return Operation(kind, tuple(inputs), numbers)


def _ints(fields: list[tuple[int, int | bytes]]) -> Iterator[int]:
    for number, part in fields:
        if number != 8:
            continue
        if isinstance(part, int):
            yield part
            continue
        at = 0
        while at < len(part):
            value, at = _varint(part, at)
            yield value


def _array(data: bytes) -> tuple[str, Tensor | None]:
    fields = list(_fields(data))
    shape = [value for field, value in fields if field == 1 and isinstance(value, int)]
    name = next(_bytes(value).decode() for field, value in fields if field == 8)
    raw = [_bytes(value) for field, value in fields if field == 9]
    if (2, _FLOAT32) not in fields or not raw:
        return name, None
    return name, torch.from_numpy(np.frombuffer(raw[0], "<f4").reshape(shape).copy())
