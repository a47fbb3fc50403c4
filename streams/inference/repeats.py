"""The same content twice: what is in flight is joined, what was answered is kept, within a bound in bytes. One loop.

Keys hold a hash of the content (SHA-256: contents come from strangers), never the content.
"""

import hashlib
from collections import OrderedDict
from typing import Any, Literal

import msgspec

from models.types import Outcome, Payload
from streams.inference.device import Request

How = Literal["joined", "kept"]
Key = tuple[str, str, str | None, bytes]  # task, media type, language, hash

# What an object takes beside its JSON, and JSON's share of what Python holds for it: 3 to 4 measured.
_FIXED_BYTES, _PER_JSON_BYTE = 400, 4
_measure = msgspec.json.Encoder(enc_hook=repr)


def key_of(task: str, payload: Payload) -> Key:
    """Hashes the data: 1 ms for 1 to 2 MB."""
    return task, payload.media_type, payload.language, hashlib.sha256(payload.data).digest()


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

    def kept(self, key: Key) -> Outcome | None:
        """The outcome for this content, if it is still there."""
        found = self._kept.get(key)
        if found is None:
            return None
        self._kept.move_to_end(key)
        return found[0]

    def joined(self, key: Key) -> Request | None:
        """The request for this content that is in flight and wanted."""
        running = self._running.get(key)
        return None if running is None or running.abandoned else running

    def begin(self, key: Key, request: Request) -> None:
        """It does it for all who come. Each is ended by `end`."""
        self._running[key] = request

    def end(self, key: Key, request: Request, outcome: Outcome | None) -> None:
        """Nobody can join it any more; an outcome is kept. Errors are not: they may pass."""
        if self._running.get(key) is request:
            del self._running[key]
        if outcome is not None:
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
