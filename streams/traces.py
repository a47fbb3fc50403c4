"""W3C trace context in Kafka headers: what an input carries, its outputs carry on. Pure.

Without OpenTelemetry byte for byte. With it (`streams.observe.spans`) a record that is traced gets spans of its own,
and its outputs name the one that sent them as their parent.
"""

import re
from collections.abc import Sequence
from typing import Protocol

from streams.effects import Header
from streams.transport.batch import PartitionBatch, Record

PARENT, STATE = "traceparent", "tracestate"
STATE_BYTES = 512
_PARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_NONE = (b"0" * 32, b"0" * 16)


def carried(headers: Sequence[Header]) -> list[Header]:
    """The trace headers among an input's, for its outputs; none where the parent is not as the standard has it."""
    if not headers:
        return []
    found = {name: value for name, value in headers if name in (PARENT, STATE) and value}
    parent = found.get(PARENT)
    if parent is None or not _valid(parent):
        return []
    kept = [(PARENT, parent)]
    state = found.get(STATE)
    if state is not None and len(state) <= STATE_BYTES:
        kept.append((STATE, state))
    return kept


def trace_id(headers: Sequence[Header]) -> str | None:
    """The trace's id in hex, for logs."""
    parent = dict(carried(headers)).get(PARENT)
    return parent[3:35].decode() if parent else None


def sampled_trace(headers: Sequence[Header]) -> str | None:
    """The trace's id in hex where its producer keeps the trace (flag `sampled`): an exemplar must lead somewhere."""
    parent = dict(carried(headers)).get(PARENT) if headers else None
    return parent[3:35].decode() if parent and int(parent[53:55], 16) & 1 else None


def _valid(parent: bytes) -> bool:
    match = _PARENT.fullmatch(parent) if len(parent) < 64 else None
    return match is not None and match[1] != _NONE[0] and match[2] != _NONE[1] and parent[:2] != b"ff"


class Traced(Protocol):
    """One record on its way through an agent."""

    def step(self, name: str, seconds: float, **attributes: str | float) -> None:
        """A part of the work that has just ended, and how long it took."""
        ...

    def sending(self, topic: str) -> list[Header]:
        """An output leaves: the trace headers that it takes along."""
        ...


class Tracing(Protocol):
    """What an agent tells of its work."""

    def deciding(self, batches: Sequence[PartitionBatch]) -> None:
        """These batches are decided together, from now on."""
        ...

    def begin(
        self, agent: str, topic: str, partition: int, record: Record, read_s: float | None = None
    ) -> Traced:
        """A record whose outputs are about to be made; `read_s`: when it was read, where no decision knows."""
        ...

    def finished(self, batch: PartitionBatch) -> None:
        """The effects of a batch are durable."""
        ...

    async def stop(self) -> None:
        """The worker ends."""
        ...


class CarriedOn:
    """A record without spans: its context goes on as it came."""

    __slots__ = ("_headers",)

    def __init__(self, headers: Sequence[Header]) -> None:
        self._headers = headers

    def step(self, name: str, seconds: float, **attributes: str | float) -> None:
        """Nobody listens."""

    def sending(self, topic: str) -> list[Header]:
        return carried(self._headers)


class NoSpans:
    """Tracing without OpenTelemetry."""

    def deciding(self, batches: Sequence[PartitionBatch]) -> None:
        """Nobody listens."""

    def begin(
        self, agent: str, topic: str, partition: int, record: Record, read_s: float | None = None
    ) -> CarriedOn:
        return CarriedOn(record.headers)

    def finished(self, batch: PartitionBatch) -> None:
        """Nobody listens."""

    async def stop(self) -> None:
        """Nothing to send."""


NO_SPANS = NoSpans()
