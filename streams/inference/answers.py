"""What a caller gets for a payload."""

from dataclasses import dataclass
from typing import Literal

from models.types import Outcome

How = Literal["joined", "kept"]

Times = tuple[float, float, float, float, float, float]
"""When a payload was submitted, let in, prepared and run (0: it was not), how long the batches took that it was in,
when its answer was there: seconds, monotonic."""


@dataclass(slots=True)
class Stages:
    """Seconds that a payload spent, one after the other: for room, being prepared, in the queue, on the device (whole
    batches, shared with others), being finished."""

    room_s: float = 0.0
    prepare_s: float = 0.0
    queue_s: float = 0.0
    device_s: float = 0.0
    finish_s: float = 0.0


@dataclass(slots=True)
class Answer:
    """What a task made of a payload. `repeated`: how, where the same content had been labelled before."""

    outcome: Outcome
    repeated: How | None = None
    times: Times = (0.0,) * 6

    @property
    def stages(self) -> Stages:
        """Where the time went; what had nothing to run was prepared and finished in one."""
        submitted_s, entered_s, prepared_s, ran_s, device_s, ended_s = self.times
        prepared_s = prepared_s or ended_s
        ran_s = ran_s or prepared_s
        return Stages(
            room_s=entered_s - submitted_s,
            prepare_s=prepared_s - entered_s,
            queue_s=max(0.0, ran_s - prepared_s - device_s),
            device_s=device_s,
            finish_s=ended_s - ran_s,
        )
