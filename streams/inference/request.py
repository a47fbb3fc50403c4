"""A payload on its way through the service, and the calls that wait for it."""

from asyncio import Future
from dataclasses import dataclass, field
from typing import Any

from models.errors import ModelError
from models.inference.batching import Lane
from models.types import Outcome, Payload, Prepared, Task
from streams.inference.answers import Answer
from streams.inference.failures import InferenceInterrupted

Key = tuple[str, str, str | None, bytes]
"""What tells contents apart: task, media type, language, hash of the data."""

Result = Answer | ModelError | InferenceInterrupted

# A long recording has hundreds of units. So many of one payload wait at a time; the next come behind what others have
# put meanwhile, so that it shares the device with its neighbours instead of holding them up.
UNITS_AT_ONCE = 16


@dataclass(slots=True, eq=False)
class Call:
    """What one caller waits for: the result of each of its payloads, in order, behind one future."""

    results: list[Any]  # Result; None while it is missing
    future: "Future[None]"
    missing: int = 1  # one stands for those that the caller has not come to yet: see `all_found`
    requests: "list[Request]" = field(default_factory=list)

    def wait_for(self, place: int, found: "Answer | Request") -> None:
        """Of one of its payloads: the answer, or who will have it."""
        if isinstance(found, Answer):
            self.results[place] = found
            return
        found.waiters.append((self, place))
        self.requests.append(found)
        self.missing += 1

    def all_found(self) -> bool:
        """The caller has come to the last of them; whether any is missing."""
        self.missing -= 1
        return self.missing > 0

    def tell(self, place: int, result: Result) -> None:
        """One of them is there."""
        self.results[place] = result
        self.missing -= 1
        if not self.missing and not self.future.done():
            self.future.set_result(None)

    def fail(self, error: Exception) -> None:
        """None that is missing will come."""
        if not self.future.done():
            self.future.set_exception(error)


@dataclass(slots=True, eq=False)
class Request:
    """The loop's: waiters and room; whoever has it at the moment, one after the other, the crew and the device
    thread: the rest."""

    task: Task
    name: str
    payload: Payload
    lane: Lane
    submitted_s: float
    entered_s: float  # when there was room
    key: Key
    waiters: "list[tuple[Call, int]]"  # and which of the call's payloads it is
    bytes: int  # room taken
    units: int = 1
    giant: bool = False
    abandoned: bool = False  # nobody waits for it any more: do not run it
    deaths: int = 0  # of the device thread, with it on the device
    # What follows is there once it is decoded:
    prepared: Prepared = field(init=False)
    prepared_bytes: int = field(init=False)
    grew: bool = field(init=False)  # it takes more room than it did as a payload
    prepared_s: float = field(init=False)
    outputs: list[Any] = field(init=False)
    missing: int = field(init=False)  # units without output
    unsent: int = field(init=False)  # the first unit that the planner has not had
    device_s: float = field(init=False)  # of all batches that had a unit of it
    ran_s: float = field(init=False)  # when the last one ended

    def got(self, prepared: Prepared) -> None:
        """It is decoded."""
        self.prepared = prepared
        units = prepared.units
        self.missing = count = len(units)
        self.outputs = [None] * count
        size_bytes = 0
        for unit in units:
            size_bytes += getattr(unit.data, "nbytes", 0)
        self.prepared_bytes = size_bytes
        self.grew = size_bytes > self.bytes or count > self.units
        self.unsent = 0
        self.prepared_s = self.device_s = self.ran_s = 0.0

    @property
    def is_giant(self) -> bool:
        """Whether it takes many batches."""
        return len(self.outputs) > UNITS_AT_ONCE

    def answer(self, outcome: Outcome, now_s: float) -> Answer:
        """For the first who asked."""
        spent = (
            self.submitted_s,
            self.entered_s,
            self.prepared_s,
            self.ran_s,
            self.device_s,
            now_s,
        )
        return Answer(outcome, None, spent)
