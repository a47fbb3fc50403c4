"""Records shared by all inference tasks, and the one seam they implement.

A task turns one payload into findings in three steps, so that only the middle one needs the device:

    prepare (CPU pool)  Payload -> Prepared: bytes decoded into device-ready units with a known cost
    forward (device)    units of many payloads, a batch -> one output a unit, in order
    finish  (CPU pool)  Prepared + its outputs -> findings, and payloads for other tasks (chains)

A payload may give several units (a long recording in windows) and several findings; a task may ask for
others on what it found (a picture's text through sentiment). NumPy only; knows nothing of topics or clocks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Which weights made a label. `revision` changes whenever an answer could; `sha256`: of the file."""

    name: str
    revision: str
    sha256: str
    dtype: str


@dataclass(frozen=True, slots=True)
class Payload:
    """What a task reads: raw bytes (UTF-8 for text). The codec is told by content, never by name."""

    media_type: str
    data: bytes
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Unit:
    """One row of a device batch.

    `length` is what padding is paid for (tokens, mel frames; a constant for fixed-size inputs); a batch costs
    `longest length x units`, in the task's own unit of cost.
    """

    length: int
    data: Any


@dataclass(frozen=True, slots=True)
class Prepared:
    """A payload after `prepare`. `context` is the task's own, handed back to `finish`."""

    units: tuple[Unit, ...]
    context: Any = None


@dataclass(frozen=True, slots=True)
class Span:
    """A part of the input that a value belongs to: characters of a text or seconds of a recording."""

    start: float
    end: float
    value: Json
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of a task: what a label carries. `scores` are by class name, each in 0..1.

    `model`: which one it was, where a task has several; None for the task's own.
    """

    task: str
    value: Json
    score: float | None = None
    scores: dict[str, float] = field(default_factory=dict)
    spans: tuple[Span, ...] = ()
    detail: dict[str, Json] = field(default_factory=dict)
    model: ModelInfo | None = None


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A payload that another task should look at because of what this one found."""

    task: str
    payload: Payload


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that a task made of one payload."""

    findings: tuple[Finding, ...]
    follow_ups: tuple[FollowUp, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """Where a task finds its weights and where it runs.

    `folder` is a user's checkpoint (Hugging Face layout, safetensors) or None for the embedded default;
    `cache` holds what was converted once from packages; `device` is a torch device name.
    """

    cache: Path
    folder: Path | None = None
    device: str = "cpu"
    dtype: str = "float32"
    options: dict[str, Json] = field(default_factory=dict)


class Task(Protocol):
    """One inference task. One file in `models/tasks`, one row in `models.registry`.

    A class may also say whose findings it reads, by an attribute `after: Mapping[str, str]`: the other task's name ->
    the field of its finding that is the text to read, `value` or one of `detail` (`models.inference.chains`). Its
    `captures`, where it has some, are how its networks are run (`models.inference.captures`): the warm-up warms them.
    """

    name: str
    model: ModelInfo
    batch_cost: int  # largest `longest length x units` of one forward
    max_units: int  # largest number of units of one forward

    @classmethod
    def load(cls, options: LoadOptions) -> "Task":
        """Read and check weights, build the network. Raises WeightsMismatch. May take seconds."""
        ...

    @classmethod
    def accepts(cls, media_type: str) -> bool:
        """Whether payloads of this media type are for this task. Needs no weights."""
        ...

    def prepare(self, payload: Payload) -> Prepared:
        """Decode one payload on the CPU; thread-safe. Raises BadInput."""
        ...

    def forward(self, units: Sequence[Unit]) -> list[Any]:
        """Run one batch on the device; called by one thread only. One output a unit, in order."""
        ...

    def finish(self, prepared: Prepared, outputs: Sequence[Any]) -> Outcome:
        """Join the outputs of one payload's units on the CPU; thread-safe."""
        ...

    def examples(self) -> Sequence[Payload]:
        """Payloads for the warm-up: together they reach the smallest and the largest batch shape."""
        ...
