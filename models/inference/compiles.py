"""How often this process has compiled a graph or captured one: after the warm-up that must not grow.

A shape that the warm-up did not reach costs seconds where a batch costs milliseconds; after eight of them
torch.compile silently runs eagerly. `models.inference.captures` calls `captured`.
"""

import sys

_captures = 0


def captured() -> None:
    """A CUDA graph was captured."""
    global _captures  # of the process, as the device is
    _captures += 1


def compiles() -> int:
    """Graphs compiled by torch.compile and CUDA graphs captured since the start. Imports nothing."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return _captures + (0 if dynamo is None else int(dynamo.counters["stats"]["unique_graphs"]))
