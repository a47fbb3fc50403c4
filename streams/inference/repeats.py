"""The same content twice: what is in flight is joined, what was answered is kept, within a bound in bytes. One loop.

Keys hold a hash of the content (SHA-256: contents come from strangers), never the content.
"""

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from models.types import Outcome, Payload

How = Literal["joined", "kept"]
Key = tuple[str, str, str | None, bytes]  # task, media type, language, hash

# What an object takes beside its JSON, and JSON's share of what Python holds for it: 3 to 4 measured.
_FIXED_BYTES, _PER_JSON_BYTE = 400, 4
_measure = msgspec.json.Encoder(enc_hook=repr)


@dataclass(slots=True)
class Ended:
    """How a payload ended, for those who joined it; both None: its caller went away, someone else must do it."""

    outcome: Outcome | None = None
    error: Exception | None = None


def key_of(task: str, payload: Payload) -> Key:
    """Hashes the data: 1 ms for 1 to 2 MB."""
    return task, payload.media_type, payload.language, hashlib.sha256(payload.data).digest()


class Repeats:
    """Of all tasks of a service."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._kept: OrderedDict[Key, tuple[Outcome, int]] = OrderedDict()  # least recently used first
        self._running: dict[Key, asyncio.Future[Ended]] = {}
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

    async def joined(self, key: Key) -> Ended | None:
        """How the one that is in flight ended; None if none is. Safe to cancel: it goes on."""
        running = self._running.get(key)
        if running is None:
            return None
        await asyncio.wait((running,))
        return running.result()

    def begin(self, key: Key) -> None:
        """This caller does it. Each is ended by `end`."""
        self._running[key] = asyncio.get_running_loop().create_future()

    def end(self, key: Key, ended: Ended) -> None:
        """Answer those who joined, and keep an outcome. Errors are not kept: they may pass."""
        self._running.pop(key).set_result(ended)
        if ended.outcome is not None:
            self._keep(key, ended.outcome)

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
