"""What the service counts, and who hears of it."""

from dataclasses import dataclass
from typing import Protocol

from streams.inference.answers import How
from streams.inference.device import BatchReport


class Observer(Protocol):
    """What a metrics layer hears, on the event loop."""

    def batch_done(self, batch: BatchReport) -> None:
        """A batch ran. Padding is 1 - total_length / (longest x units)."""

    def failed(self, task: str, reason: str) -> None:
        """A payload got an error: a BadInput's reason, or `out_of_memory`."""

    def repeated(self, task: str, how: How) -> None:
        """A payload was answered without the device: its content was in flight or known."""

    def late(self, task: str) -> None:
        """A payload was answered past its deadline."""

    def uncaptured(self, task: str, shapes: int) -> None:
        """A task is loaded; so many shapes of its batches have no graph, and run eagerly."""

    def restarted(self, reason: str) -> None:
        """The device thread died and is started anew; `reason` is the class of what killed it."""


@dataclass(slots=True)
class Totals:
    """Of one task since the start; `padded_length`: what the device computed, `real_length`: what was due."""

    batches: int = 0
    units: int = 0
    real_length: int = 0
    padded_length: int = 0
    failed: int = 0
    joined: int = 0
    kept: int = 0
    late: int = 0
    compiles: int = 0
    device_busy_s: float = 0.0
    queue_s: float = 0.0  # each batch's oldest unit, summed

    @property
    def padding(self) -> float:
        """Share of the device's work that was padding, 0..1."""
        return 1 - self.real_length / self.padded_length if self.padded_length else 0.0

    def add(self, batch: BatchReport) -> None:
        """Count a batch that ran."""
        self.batches += 1
        self.units += batch.units
        self.real_length += batch.total_length
        self.padded_length += batch.longest * batch.units
        self.compiles += batch.compiles
        self.device_busy_s += batch.forward_s
        self.queue_s += batch.queue_s
