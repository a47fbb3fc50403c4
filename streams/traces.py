"""W3C trace context in Kafka headers: what an input carries, its outputs carry on, byte for byte.

Headrace makes no spans of its own, so parent and state stay as they came. Pure.
"""

import re
from collections.abc import Sequence

from streams.effects import Header

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
