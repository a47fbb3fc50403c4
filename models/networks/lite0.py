"""EfficientNet-Lite0, ImageNet-1k: EfficientNet-B0's blocks without squeeze-and-excitation, with ReLU6.

Parameter names are those of the checkpoint `efficientnet-lite0-57934424.pth` (RangiLyu's port of Google's
TensorFlow release). TensorFlow pads SAME: with stride 2 the odd pixel goes right and below, where torch's
symmetric padding shifts every feature map by half a pixel and loses three of forty test pictures.
Sources: Tan and Le, EfficientNet, 2019; tensorflow/tpu, efficientnet/lite.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

SIDE_PX = 224
CLASSES = 1000

# (kernel, stride of the first block, expansion, channels out, blocks), from B0 at width and depth 1.
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_BATCH_NORM_EPS = 1e-3


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding for even inputs; gets its bias in `fold`."""

    def __init__(self, ins: int, outs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(ins, outs, kernel, stride, groups=groups, bias=False)
        total = kernel - stride
        self._ahead, self._behind = total // 2, total - total // 2
        if self._ahead == self._behind:
            self.padding = (self._ahead, self._ahead)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)."""
        if self._ahead != self._behind:
            x = F.pad(x, (self._ahead, self._behind, self._ahead, self._behind))
        return super().forward(x)


class _Block(nn.Module):
    """Inverted residual: expand, depthwise, project."""

    def __init__(self, ins: int, outs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = ins * expansion
        self._expanded = expansion > 1
        if self._expanded:
            self._expand_conv = SameConv(ins, middle, 1)
            self._bn0: nn.Module = nn.BatchNorm2d(middle, eps=_BATCH_NORM_EPS)
        self._depthwise_conv = SameConv(middle, middle, kernel, stride, groups=middle)
        self._bn1: nn.Module = nn.BatchNorm2d(middle, eps=_BATCH_NORM_EPS)
        self._project_conv = SameConv(middle, outs, 1)
        self._bn2: nn.Module = nn.BatchNorm2d(outs, eps=_BATCH_NORM_EPS)
        self._residual = stride == 1 and ins == outs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x
        if self._expanded:
            y = F.relu6(self._bn0(self._expand_conv(y)), inplace=True)
        y = F.relu6(self._bn1(self._depthwise_conv(y)), inplace=True)
        y = self._bn2(self._project_conv(y))
        return y + x if self._residual else y

    def fold(self) -> None:
        """See `Lite0.fold`."""
        if self._expanded:
            self._bn0 = _folded(self._expand_conv, self._bn0)
        self._bn1 = _folded(self._depthwise_conv, self._bn1)
        self._bn2 = _folded(self._project_conv, self._bn2)


class Lite0(nn.Module):
    """Pixels (B, 3, 224, 224), RGB, (x - 127) / 128 -> logits (B, 1000)."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv(3, 32, 3, 2)
        self._bn0: nn.Module = nn.BatchNorm2d(32, eps=_BATCH_NORM_EPS)
        blocks: list[nn.Module] = []
        ins = 32
        for kernel, stride, expansion, outs, count in _STAGES:
            for n in range(count):
                blocks.append(_Block(ins, outs, kernel, stride if n == 0 else 1, expansion))
                ins = outs
        self._blocks = nn.Sequential(*blocks)
        self._conv_head = SameConv(ins, 1280, 1)
        self._bn1: nn.Module = nn.BatchNorm2d(1280, eps=_BATCH_NORM_EPS)
        self._fc = nn.Linear(1280, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        x = F.relu6(self._bn0(self._conv_stem(pixels)), inplace=True)
        x = self._blocks(x)
        x = F.relu6(self._bn1(self._conv_head(x)), inplace=True)
        return self._fc(x.mean((2, 3)))  # type: ignore[no-any-return]

    def fold(self) -> "Lite0":
        """Fold each batch norm into its convolution, in place: the same function (to 1e-5) with half the
        passes over memory. Only for inference; the state dict's names change."""
        self._bn0 = _folded(self._conv_stem, self._bn0)
        self._bn1 = _folded(self._conv_head, self._bn1)
        for block in self._blocks:
            assert isinstance(block, _Block)
            block.fold()
        return self


def _folded(conv: nn.Conv2d, norm: nn.Module) -> nn.Module:
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    with torch.no_grad():
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        conv.weight.mul_(scale[:, None, None, None])
        conv.bias = nn.Parameter(norm.bias - norm.running_mean * scale, requires_grad=False)
    return nn.Identity()
