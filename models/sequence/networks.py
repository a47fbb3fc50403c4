"""The networks as they are trained, in torch. Their tensors are those that `recurrence` and `attention` serve.

Both take windows of items (B, T), oldest first and padded with -1 at the end, and give x (B, T, D) after each event.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.sequence import attention, recurrence
from models.sequence.model import WINDOW


class _Feed(nn.Module):
    """LN, inner, outer, LN: what both networks put on top of a layer."""

    norm_1: nn.LayerNorm

    def __init__(self, dim: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.inner, self.outer = nn.Linear(dim, inner), nn.Linear(inner, dim)
        self.dropout = nn.Dropout(dropout)

    def above(self, x: Tensor) -> Tensor:
        y = self.norm_1(x)
        wide = self.dropout(functional.gelu(self.inner(y), approximate="tanh"))
        found: Tensor = self.norm_2(self.dropout(self.outer(wide)) + y)
        return found


class _Recurrent(_Feed):
    def __init__(self, dim: int, hidden: int, inner: int, dropout: float) -> None:
        super().__init__(dim, inner, dropout)
        spread = torch.linspace(0.05, 0.95, hidden)
        self.nu = nn.Parameter(torch.log(spread / (1 - spread)))
        self.into, self.out = nn.Linear(dim, hidden), nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        decay = recurrence.LONGEST * torch.sigmoid(self.nu)  # (H,)
        fed = self.into(x) * torch.sqrt(1 - decay * decay)
        steps = torch.arange(x.shape[1])
        distance = steps[:, None] - steps
        # h_t = sum over s <= t of decay^(t - s) fed_s: one matrix a channel instead of a loop over time
        powers = torch.exp(distance.clamp(min=0) * decay.log()[:, None, None]) * (distance >= 0)
        hidden = torch.bmm(powers, fed.permute(2, 1, 0)).permute(2, 1, 0)
        return self.above(self.dropout(self.out(hidden)) + x)


class _Attentive(_Feed):
    def __init__(self, dim: int, inner: int, dropout: float) -> None:
        super().__init__(dim, inner, dropout)
        self.query, self.key, self.value = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.near = nn.Parameter(torch.linspace(0, -2, WINDOW))

    def forward(self, x: Tensor) -> Tensor:
        steps = torch.arange(x.shape[1])
        distance = steps[:, None] - steps
        mask = torch.where(distance >= 0, self.near[distance.abs()], -math.inf)
        scores = self.query(x) @ self.key(x).transpose(1, 2) / math.sqrt(x.shape[2]) + mask
        shares = self.dropout(scores.softmax(dim=2))
        return self.above(self.dropout(shares @ self.value(x)) + x)


class Network(nn.Module):
    """Either network: windows (B, T) -> x (B, T, D); `logits` scores all items."""

    def __init__(self, kind: str, items: int, dropout: float) -> None:
        """Raises ValueError for a kind that there is not. Weights are drawn from torch's generator."""
        super().__init__()
        if kind == "recurrence":
            dim = recurrence.DIM
            self.layers = nn.ModuleList(
                _Recurrent(dim, recurrence.HIDDEN, recurrence.INNER, dropout)
                for _ in range(recurrence.LAYERS)
            )
        elif kind == "attention":
            dim = attention.DIM
            self.layers = nn.ModuleList(
                _Attentive(dim, attention.INNER, dropout) for _ in range(attention.LAYERS)
            )
        else:
            raise ValueError(f"{kind}: it is recurrence or attention")
        self.items = nn.Embedding(items, dim)
        nn.init.normal_(self.items.weight, 0, dim**-0.5)
        self.bias = nn.Parameter(torch.zeros(items))
        self.dropout = nn.Dropout(dropout)

    def forward(self, windows: Tensor) -> Tensor:
        x: Tensor = self.dropout(self.items(windows.clamp(min=0)))
        for layer in self.layers:
            x = layer(x)
        return x

    def logits(self, x: Tensor) -> Tensor:
        """(..., V) from x (..., D)."""
        found: Tensor = x @ self.items.weight.T + self.bias
        return found
