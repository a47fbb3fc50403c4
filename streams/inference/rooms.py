"""How much of one task may be in flight, and the one place for a giant. One event loop."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from models.types import ModelInfo, Task
from streams.inference.admission import Admission
from streams.inference.request import Request
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
        more_units, more_bytes = units - request.units, max(0, request.prepared_bytes - request.bytes)
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

    def leave(self, requests: Sequence[Request], put: Callable[[Request], None]) -> None:
        """Give their room back, once; the next giant takes its turn."""
        units = size_bytes = 0
        for request in requests:
            if request.giant:
                self.giant = None
                if self.giants:
                    self.place_giant(self.giants.popleft(), put)
            else:
                units += request.units
                size_bytes += request.bytes
        self.admission.resize(-units, -size_bytes)
