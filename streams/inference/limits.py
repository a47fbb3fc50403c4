"""How much a service takes on."""

import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InferenceLimits:
    """Bounds of one task, and the threads that serve all."""

    units_in_flight: int = 1024  # four windows: the planner always has a full one to choose from
    bytes_in_flight: int = 256 << 20  # of payloads, or of what they were decoded to where that is more
    kept_bytes: int = 32 << 20  # of outcomes, over all tasks, for content that comes again; 0: none
    weights_bytes: int = (
        sys.maxsize
    )  # of all tasks' models; where they do not fit, the idle ones are unloaded
    idle_s: float | None = None  # unload a model that was not asked for so long; None: never for that alone
    prepare_threads: int = 2  # one or two batches ahead of the device is enough
    restarts: int = 3  # of the device thread within `restarts_within_s`; then the worker has to stop
    restarts_within_s: float = 600.0
