"""A record that cannot be processed: why, and where in the code that came out."""

import traceback
from dataclasses import dataclass
from types import TracebackType

from streams.transport.batch import Record

TRACE_BYTES = 4_000
TRACE_FRAMES = 20
MESSAGE_CHARS = 300
CAUSES = 4


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record lay when it was read for the first time, and how often it was tried, this time included."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Rejected:
    """What became of it. `reason` is one of `streams.errors.REASONS`."""

    record: Record
    reason: str
    message: str
    error: str = "streams.errors.Reject"  # the exception's class
    trace: str = ""  # where it was raised; empty when nothing was


def rejected_by(record: Record, error: BaseException, reason: str) -> Rejected:
    """A record with the error that tells why."""
    return Rejected(
        record, reason, str(error) or type(error).__name__, class_name(type(error)), trace_of(error)
    )


def class_name(kind: type) -> str:
    """As an import finds it."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def trace_of(error: BaseException) -> str:
    """The error, the calls that led to it (innermost first, as Java prints them) and its causes. No source lines and
    no folders: it travels in a header. At most `TRACE_BYTES` bytes."""
    lines: list[str] = []
    cause: BaseException | None = error
    for _ in range(CAUSES):
        if cause is None:
            break
        lines.append(
            f"{'Caused by: ' if lines else ''}{class_name(type(cause))}: {str(cause)[:MESSAGE_CHARS]}"
        )
        lines += _calls(cause.__traceback__)
        cause = cause.__cause__
    return "\n".join(lines).encode(errors="replace")[:TRACE_BYTES].decode(errors="ignore")


def _calls(trace: TracebackType | None) -> list[str]:
    calls = [
        f"\tat {frame.f_globals.get('__name__', '?')}.{frame.f_code.co_name}(line {line})"
        for frame, line in traceback.walk_tb(trace)
    ]
    return calls[::-1][:TRACE_FRAMES]
