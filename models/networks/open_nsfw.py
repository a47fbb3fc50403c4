"""open_nsfw: a ResNet-50 of half the width that says how likely a picture is not safe for work.

Mahadeokar and Pesavento, Open Sourcing a Deep Learning Solution for Detecting NSFW Images, 2016. Batch norms are
folded into the convolutions, as the ONNX form of it has them.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from models.errors import WeightsMismatch
from models.inference.onnx import Operation

SIDE_PX = 224
_BLOCKS = (3, 4, 6, 3)
_WIDTHS = (32, 64, 128, 256)
MEAN_BGR = (104.0, 117.0, 123.0)


class _Block(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int, shortcut: bool) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(inputs, 4 * width, 1, stride) if shortcut else None
        self.a = nn.Conv2d(inputs, width, 1, stride)
        self.b = nn.Conv2d(width, width, 3, padding=1)
        self.c = nn.Conv2d(width, 4 * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        around = x if self.shortcut is None else self.shortcut(x)
        return torch.relu(self.c(torch.relu(self.b(torch.relu(self.a(x))))) + around)


class OpenNsfw(nn.Module):
    """(B, 3, 224, 224), BGR less its mean -> logits (B, 2): safe, not safe."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 64, 7, 2, 3)
        blocks = []
        inputs = 64
        for stage, (count, width) in enumerate(zip(_BLOCKS, _WIDTHS, strict=True)):
            for at in range(count):
                blocks.append(_Block(inputs, width, 2 if stage and not at else 1, shortcut=not at))
                inputs = 4 * width
        self.blocks = nn.Sequential(*blocks)
        self.out = nn.Linear(inputs, 2)

    def forward(self, pixels: Tensor) -> Tensor:
        hidden = F.max_pool2d(F.pad(torch.relu(self.first(pixels)), (0, 1, 0, 1)), 3, 2)
        logits: Tensor = self.out(self.blocks(hidden).mean((2, 3)))
        return logits


def from_onnx(operations: Sequence[Operation], arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of `OpenNsfw` from its ONNX form. Raises WeightsMismatch if that is another network."""
    net = OpenNsfw()
    order: list[nn.Conv2d] = [net.first]
    for block in net.blocks:
        assert isinstance(block, _Block)
        order += [conv for conv in (block.shortcut, block.a, block.b, block.c) if conv is not None]
    found = [operation for operation in operations if operation.kind == "Conv"]
    dense = [operation for operation in operations if operation.kind == "MatMul"]
    names = {id(module): name for name, module in net.named_modules()}
    state: dict[str, Tensor] = {}
    try:
        for conv, operation in zip(order, found, strict=True):
            if operation.numbers["strides"] != tuple(conv.stride):
                raise WeightsMismatch(
                    f"a convolution steps {operation.numbers['strides']}: this is no open_nsfw"
                )
            for part, name in zip(("weight", "bias"), operation.inputs[1:], strict=True):
                state[f"{names[id(conv)]}.{part}"] = arrays[name]
        weight = arrays[dense[0].inputs[1]]
        state["out.weight"] = weight.T.contiguous()
        state["out.bias"] = next(one for one in arrays.values() if tuple(one.shape) == (2,))
        net.load_state_dict(state, strict=True)
    except (KeyError, ValueError, IndexError, StopIteration, RuntimeError) as error:
        raise WeightsMismatch(f"the ONNX model is no open_nsfw ({error})") from error
    return state
