"""How this process moves arrays to a device and runs networks on it: by `models.inference.cuda` on CUDA, plainly on a
CPU."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from models.inference.captures import Blank, Captures, Eager, Graphs, Network, Recorder

Upload = Callable[[NDArray[Any]], Tensor]
"""An array -> a tensor on the device, the caller's as long as the array is."""


_GPU_TIMES = 16  # a batch that fills a core for 20 ms is done by a GPU before it is noticed


@cache
def upload_to(device: str) -> Upload:
    """One for all networks of a device: they share its buffers. Its thread calls it."""
    on = torch.device(device)
    if on.type == "cuda":
        from models.inference.cuda import Uploads

        return Uploads(on)
    return torch.from_numpy if on.type == "cpu" else lambda array: torch.from_numpy(array).to(on)


def batch_cost_on(device: str, cpu_cost: int) -> int:
    """The largest batch where a CPU's is known. An estimate: no GPU was at hand to measure it."""
    return cpu_cost if torch.device(device).type == "cpu" else _GPU_TIMES * cpu_cost


def captures_of(network: Network, blanks: Sequence[Blank], device: str, most_cost: int) -> Captures:
    """How a network of inputs (rows, length) is run there; `most_cost`: rows x length of its largest batch."""
    record = recorder_on(device)
    return Eager(network) if record is None else Graphs(network, record, blanks, device, most_cost)


def recorder_on(device: str) -> Recorder | None:
    """What captures graphs there; None where there are none."""
    on = torch.device(device)
    if on.type != "cuda":
        return None
    from models.inference.cuda import Recorder as OnCuda

    return OnCuda(on)
