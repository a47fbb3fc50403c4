"""How much of one task may be in flight, and the one place for a giant. One event loop."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from models.types import ModelInfo, Task
from streams.inference.admission import Admission
from streams.inference.device import UNITS_AT_ONCE, Request
from streams.inference.totals import Totals


@dataclass(slots=True)
class Served:
    """A task that was started. Work that takes many batches holds the place for giants instead of ordinary room, so
    that its neighbours have room in the meantime; a second one waits, and holds its ordinary room."""

    task: Task | None  # None: not on the device now
    model: ModelInfo
    size_bytes: int
    admission: Admission
    totals: Totals = field(default_factory=Totals)
    giant: Request | None = None
    giants: deque[Request] = field(default_factory=deque)

    @property
    def busy(self) -> bool:
        """Whether anything of it is in flight."""
        return self.admission.units > 0 or self.giant is not None

    def grow(self, request: Request) -> None:
        """Take room for what the payload was decoded to; never less than before."""
        units = max(1, len(request.prepared.units))
        decoded_bytes = sum(int(getattr(unit.data, "nbytes", 0)) for unit in request.prepared.units)
        more_units, more_bytes = units - request.units, max(0, decoded_bytes - request.bytes)
        if more_units or more_bytes:
            request.units, request.bytes = units, request.bytes + more_bytes
            self.admission.resize(more_units, more_bytes)

    def place_giant(self, request: Request, put: Callable[[Request], None]) -> None:
        """Let it in, or have it wait for the one before it."""
        if self.giant is not None:
            self.giants.append(request)
            return
        self.giant, request.giant = request, True
        self.admission.resize(-request.units, -request.bytes)
        put(request)

    def leave(self, request: Request, put: Callable[[Request], None]) -> None:
        """Give its room back, once; the next giant takes its turn."""
        if not request.giant:
            self.admission.resize(-request.units, -request.bytes)
            return
        self.giant = None
        if self.giants:
            self.place_giant(self.giants.popleft(), put)


def is_giant(request: Request) -> bool:
    """Whether it takes many batches."""
    return len(request.prepared.units) > UNITS_AT_ONCE
