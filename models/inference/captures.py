"""Networks run by captured graphs where the device can, eagerly elsewhere. Knows no device of its own.

A graph fixes shapes and addresses: one for each bucket of rows and lengths, captured at the warm-up and replayed after
it. A batch is padded to its bucket; where that would add more than an eighth of its work it runs eagerly, as it
does where a capture failed, counted and with its reason. Graphs pay where starting kernels costs more than running
them: at few rows.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from models.inference.compiles import captured

log = logging.getLogger(__name__)

Shape = tuple[int, int]
"""Rows and length."""

Network = Callable[..., Tensor]
"""Tensors (B, T, ...) -> (B, ...), each row by itself."""

ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64)
LENGTHS = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512)
_MOST_PADDING = 1.125


class Captures(Protocol):
    """How one network is run. `failures`: shapes that could not be captured, and why."""

    failures: dict[Shape, str]

    def run(self, *inputs: Tensor) -> Tensor:
        """The network's outputs; the caller's to keep."""
        ...

    def warm_up(self) -> None:
        """What is captured is captured now."""
        ...


class Eager:
    """As it is: on a CPU, where starting a kernel costs next to nothing."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.failures: dict[Shape, str] = {}

    def run(self, *inputs: Tensor) -> Tensor:
        return self._network(*inputs)

    def warm_up(self) -> None:
        """Nothing to capture."""


@dataclass(frozen=True, slots=True)
class Graph:
    """Captured work: fill `inputs`, `replay`, read `output`; the next replay writes over it."""

    inputs: tuple[Tensor, ...]
    output: Tensor
    replay: Callable[[], None]


Recorder = Callable[[Network, tuple[Tensor, ...]], Graph]
"""Runs the network on these inputs and captures it. Raises RuntimeError (out of memory is one) where it cannot."""


@dataclass(frozen=True, slots=True)
class Blank:
    """An input of a network: what a padded place holds, and its number format. Shape (rows, length)."""

    fill: int
    dtype: torch.dtype = torch.int64


class Graphs:
    """Of one network whose inputs are (rows, length) each."""

    def __init__(
        self,
        network: Network,
        record: Recorder,
        blanks: Sequence[Blank],
        device: torch.device | str,
        most_cost: int,
        most_rows: int = 8,
        most_length: int = LENGTHS[-1],
    ) -> None:
        """`most_cost`: rows x length of the largest batch; `most_rows`: beyond them kernels take longer than their
        start."""
        self._network = network
        self._record = record
        self._blanks = tuple(blanks)
        self._device = device
        self._most_cost = most_cost
        self._rows = [rows for rows in ROWS if rows <= most_rows]
        self._lengths = [length for length in LENGTHS if length <= most_length]
        self._graphs: dict[Shape, Graph] = {}
        self.replays = 0
        self.eager: Counter[str] = Counter()  # batches by why: `padding`, `no_capture`
        self.failures: dict[Shape, str] = {}

    def __len__(self) -> int:
        """Graphs that were captured."""
        return len(self._graphs)

    def shapes(self) -> Iterator[Shape]:
        """What the warm-up captures, largest first: the smaller ones then fit into its memory."""
        found = [
            (rows, length)
            for rows in self._rows
            for length in self._lengths
            if rows * length <= self._most_cost
        ]
        return iter(sorted(found, key=lambda shape: -shape[0] * shape[1]))

    def bucket(self, rows: int, length: int) -> Shape | None:
        """The smallest that holds it, or None where its padding would cost too much."""
        wide = next((one for one in self._rows if one >= rows), None)
        long = next((one for one in self._lengths if one >= length), None)
        if wide is None or long is None or wide * long > _MOST_PADDING * rows * length:
            return None
        return wide, long

    def warm_up(self) -> None:
        for shape in self.shapes():
            inputs = tuple(
                torch.full(shape, blank.fill, dtype=blank.dtype, device=self._device)
                for blank in self._blanks
            )
            try:
                self._graphs[shape] = self._record(self._network, inputs)
            except RuntimeError as error:
                reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
                self.failures[shape] = reason
                log.warning("no graph for %d rows of %d: %s; such batches run eagerly", *shape, reason)
            else:
                captured()

    def run(self, *inputs: Tensor) -> Tensor:
        rows, length = inputs[0].shape[:2]
        shape = self.bucket(rows, length)
        graph = None if shape is None else self._graphs.get(shape)
        if graph is None:
            self.eager["padding" if shape is None else "no_capture"] += 1
            return self._network(*inputs)
        for blank, static, given in zip(self._blanks, graph.inputs, inputs, strict=True):
            static.fill_(blank.fill)
            static[:rows, :length].copy_(given)
        graph.replay()
        self.replays += 1
        return graph.output[:rows].clone()
