"""All that is CUDA's own: pinned buffers and a copy stream, and the capture of a graph. Not run on any machine so far.

Everything around it (which buffer, which graph, when eagerly) is in `models.inference.staging` and `.captures`, which
run on a CPU as well.
"""

from collections import deque
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.inference.captures import Graph, Network
from models.inference.staging import Staging

PINNED_BYTES = 256 << 20
_WARM_RUNS = 3  # kernels that choose themselves do so before they are captured


class Uploads:
    """Arrays to a device by its copy engine, through pinned buffers, beside what the device computes."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pinned: Staging[Tensor] = Staging(
            lambda size: torch.empty(size, dtype=torch.uint8, pin_memory=True), PINNED_BYTES
        )
        self._copying: deque[tuple[Any, Tensor, int]] = deque()  # event, buffer, its size; oldest first

    def __call__(self, array: NDArray[Any]) -> Tensor:
        """The array on the device; kernels started after this wait for it."""
        while self._copying and self._copying[0][0].query():
            _, buffer, room = self._copying.popleft()
            self._pinned.give_back(buffer, room)
        buffer, room = self._pinned.take(array.nbytes)
        source = torch.from_numpy(np.ascontiguousarray(array))
        staged = buffer[: array.nbytes].view(source.dtype).view(source.shape)
        staged.copy_(source)
        compute = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._stream):
            moved = staged.to(self._device, non_blocking=True)
            event = self._stream.record_event()
        compute.wait_event(event)
        moved.record_stream(compute)
        self._copying.append((event, buffer, room))
        return moved


class Recorder:
    """Captures networks; all graphs share one pool of memory."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool: Any = torch.cuda.graph_pool_handle()

    def __call__(self, network: Network, inputs: tuple[Tensor, ...]) -> Graph:
        """As `models.inference.captures.Recorder`."""
        with torch.cuda.device(self._device):  # which need not be the first one
            beside: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside):
                for _ in range(_WARM_RUNS):
                    network(*inputs)
            torch.cuda.current_stream().wait_stream(beside)
            graph: Any = torch.cuda.CUDAGraph()
            # On that stream, since torch's own for captures is made once, on whichever device was first; what other
            # threads do meanwhile (a library of a task's own) must not spoil it.
            with torch.cuda.graph(graph, pool=self._pool, stream=beside, capture_error_mode="thread_local"):
                output = network(*inputs)
            torch.cuda.current_stream().wait_stream(beside)
        return Graph(inputs, output, graph.replay)
