"""Adapters: nothing at the start, the same answers merged as beside the layer."""

import pytest
import torch
from torch import nn

from models.inference.lora import LoraLinear, adapter_shapes, adapter_tensors, attach, merge


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def test_a_fresh_adapter_changes_nothing_and_merging_gives_the_trained_answers() -> None:
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    plain, adapted, served = network(), network(), network()
    attach(adapted, ["0", "2"], rank=2, alpha=4.0, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(adapted(x), plain(x))
    for module in adapted.modules():
        if isinstance(module, LoraLinear):
            nn.init.normal_(module.lora_b)
    tensors = adapter_tensors(adapted)
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == adapter_shapes(
        plain, ["0", "2"], rank=2
    )
    merge(served, ["0", "2"], tensors, alpha=4.0)
    assert not torch.allclose(adapted(x), plain(x), atol=0.1)
    torch.testing.assert_close(served(x), adapted(x))


def test_only_linear_layers_can_be_adapted() -> None:
    with pytest.raises(AttributeError, match="Tanh"):
        attach(network(), ["1"], rank=2, alpha=4.0, generator=torch.Generator())
