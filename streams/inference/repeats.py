"""The same content twice: what is in flight is joined, what was answered is kept, within a bound in bytes. One loop.

Keys hold a hash of the content (SHA-256: contents come from strangers), never the content.
"""

from collections import OrderedDict
from hashlib import sha256
from typing import Any

import msgspec

from models.types import Outcome, Payload
from streams.inference.request import Key, Request

# What an object takes beside its JSON, and JSON's share of what Python holds for it: 3 to 4 measured.
_FIXED_BYTES, _PER_JSON_BYTE = 400, 4
_measure = msgspec.json.Encoder(enc_hook=repr)


def key_of(task: str, payload: Payload) -> Key:
    """Hashes the data: 1 ms for 1 to 2 MB."""
    return task, payload.media_type, payload.language, sha256(payload.data).digest()


class Repeats:
    """Of all tasks of a service."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._kept: OrderedDict[Key, tuple[Outcome, int]] = OrderedDict()  # least recently used first
        self._running: dict[Key, Request] = {}
        self.bytes = 0

    def __len__(self) -> int:
        """Outcomes that are kept."""
        return len(self._kept)

    def find(self, key: Key) -> Outcome | Request | None:
        """The outcome for this content, if it is still there, or the request that is in flight and wanted."""
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
            return kept[0]
        running = self._running.get(key)
        return None if running is None or running.abandoned else running

    def begin(self, request: Request) -> None:
        """It does it for all who come. Each is ended by `end`."""
        self._running[request.key] = request

    def end(self, request: Request, outcome: Outcome | None) -> None:
        """Nobody can join it any more; an outcome is kept. Errors are not: they may pass."""
        key = request.key
        if self._running.get(key) is request:
            del self._running[key]
        if outcome is not None and self._limit_bytes:
            self._keep(key, outcome)

    def _keep(self, key: Key, outcome: Outcome) -> None:
        size = _bytes_of(outcome)
        if size > self._limit_bytes // 4 or key in self._kept:  # one must not push all others out
            return
        self._kept[key] = (outcome, size)
        self.bytes += size
        while self.bytes > self._limit_bytes:
            _, (_, freed) = self._kept.popitem(last=False)
            self.bytes -= freed


def _bytes_of(outcome: Outcome) -> int:
    found: list[Any] = [outcome.findings]
    held = sum(len(one.payload.data) for one in outcome.follow_ups)
    return _FIXED_BYTES + _PER_JSON_BYTE * len(_measure.encode(found)) + held
