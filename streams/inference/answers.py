"""What a caller gets for a payload."""

from dataclasses import dataclass
from typing import Literal

from models.types import Outcome

How = Literal["joined", "kept"]


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
    """What a task made of a payload. `repeated`: how, where the same content had been labelled before.

    The rest are the times of its way, monotonic seconds; 0: there was no such step.
    """

    outcome: Outcome
    repeated: How | None = None
    submitted_s: float = 0.0
    entered_s: float = 0.0
    prepared_s: float = 0.0
    ran_s: float = 0.0
    device_s: float = 0.0  # of all batches that had a unit of it
    ended_s: float = 0.0

    @property
    def stages(self) -> Stages:
        """Where the time went; what had nothing to run was prepared and finished in one."""
        prepared_s = self.prepared_s or self.ended_s
        ran_s = self.ran_s or prepared_s
        return Stages(
            room_s=self.entered_s - self.submitted_s,
            prepare_s=prepared_s - self.entered_s,
            queue_s=max(0.0, ran_s - prepared_s - self.device_s),
            device_s=self.device_s,
            finish_s=self.ended_s - ran_s,
        )
