"""A producer for tests of group commit: keeps what it was given in order, and confirms when the test says so."""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any

from streams.effects import Emit
from streams.errors import Retry


class RecordingProducer:
    """Takes the place of `BatchProducer`. `events` is the history: ("sent" | "confirmed", topic, keys)."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, tuple[bytes | None, ...]]] = []
        self._open: list[tuple[Emit, asyncio.Future[None]]] = []
        self.full: dict[int, asyncio.Event] = {}  # partitions whose queue has no room until the event is set

    async def restart(self) -> None:
        """Everything open fails."""
        for _, future in self._open:
            if not future.done():
                future.set_exception(TimeoutError("given up"))
        self._open.clear()

    async def send(self, emit: Emit, timestamp_ms: int) -> list[Awaitable[Any]]:
        if emit.partition in self.full:
            await self.full[emit.partition].wait()
        self.events.append(("sent", emit.topic, tuple(emit.keys)))
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._open.append((emit, future))
        return [future]

    @staticmethod
    async def confirmed(pending: Iterable[Awaitable[Any]]) -> None:
        for result in await asyncio.gather(*pending, return_exceptions=True):
            if isinstance(result, BaseException):
                raise Retry(repr(result)) from result

    async def confirm(self, topic: str, key: bytes) -> None:
        """The broker confirms what was sent to `topic` with `key`; everything that follows from it happens."""
        emit, future = self._take(topic, key)
        self.events.append(("confirmed", topic, tuple(emit.keys)))
        if not future.done():  # whoever waited for it may have been cancelled
            future.set_result(None)
        await settled()

    async def refuse(self, topic: str, key: bytes) -> None:
        """The broker never confirms it."""
        _, future = self._take(topic, key)
        future.set_exception(TimeoutError("no answer from the broker"))
        await settled()

    def forget(self, topic: str, key: bytes) -> None:
        """Whoever waits for it waits without end, whatever becomes of the connection."""
        self._take(topic, key)

    def sent(self, topic: str) -> list[bytes | None]:
        """Keys sent to a topic, in order."""
        return [key for what, to, keys in self.events if what == "sent" and to == topic for key in keys]

    def _take(self, topic: str, key: bytes) -> tuple[Emit, "asyncio.Future[None]"]:
        for place, (emit, _) in enumerate(self._open):
            if emit.topic == topic and key in emit.keys:
                return self._open.pop(place)
        raise AssertionError(f"{key!r} was not sent to {topic}: {self.events}")


async def settled() -> None:
    """Let every task go as far as it can without the outside world."""
    for _ in range(30):
        await asyncio.sleep(0)
