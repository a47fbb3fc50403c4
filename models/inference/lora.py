"""Low-rank adapters on linear layers: W x + (alpha / r) B A x (Hu et al., LoRA, 2021).

Trained beside frozen weights (`attach`), stored as two small tensors a layer (`adapter_tensors`), and added
into the weights for serving (`merge`), where they then cost nothing.
"""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn


class LoraLinear(nn.Module):
    """A frozen linear layer with a trainable low-rank addition, 0 at the start since B is 0."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base
        self.scale = alpha / rank
        bound = 1 / math.sqrt(base.in_features)  # as nn.Linear's own start
        start = torch.empty(rank, base.in_features).uniform_(-bound, bound, generator=generator)
        self.lora_a = nn.Parameter(start)
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        low = nn.functional.linear(nn.functional.linear(x, self.lora_a), self.lora_b)
        base: Tensor = self.base(x)
        return base + self.scale * low


def attach(
    network: nn.Module, targets: Iterable[str], rank: int, alpha: float, generator: torch.Generator
) -> None:
    """Put an adapter on each named linear layer. Raises AttributeError for an unknown name."""
    for name in targets:
        parent, _, leaf = name.rpartition(".")
        setattr(
            network.get_submodule(parent), leaf, LoraLinear(_linear(network, name), rank, alpha, generator)
        )


def adapter_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Copies of all adapters of a network: `<layer>.lora_a` (r, in) and `<layer>.lora_b` (out, r)."""
    return {
        f"{name}.{part}": getattr(module, part).detach().clone()
        for name, module in network.named_modules()
        if isinstance(module, LoraLinear)
        for part in ("lora_a", "lora_b")
    }


def adapter_shapes(network: nn.Module, targets: Iterable[str], rank: int) -> dict[str, tuple[int, ...]]:
    """The shapes that `merge` needs for these layers."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name in targets:
        layer = _linear(network, name)
        shapes[f"{name}.lora_a"] = (rank, layer.in_features)
        shapes[f"{name}.lora_b"] = (layer.out_features, rank)
    return shapes


@torch.no_grad()
def merge(network: nn.Module, targets: Iterable[str], tensors: Mapping[str, Tensor], alpha: float) -> None:
    """Add each adapter into its layer's weight, in fp32. Call once a network."""
    for name in targets:
        low, high = tensors[f"{name}.lora_a"].float(), tensors[f"{name}.lora_b"].float()
        _linear(network, name).weight += (alpha / low.shape[0]) * (high @ low)


def _linear(network: nn.Module, name: str) -> nn.Linear:
    layer = network.get_submodule(name)
    if not isinstance(layer, nn.Linear):
        raise AttributeError(f"{name} is {type(layer).__name__}, not a linear layer")
    return layer
