"""The open pages: each gets what is sent as fast as it takes it, or is dropped. Nothing is kept for the slow."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

QUEUE = 8  # messages that may wait for one page; the next one ends it


def message(kind: str, data: bytes) -> bytes:
    """One server-sent event. JSON has no raw line breaks."""
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"


@dataclass(eq=False, slots=True)
class Client:
    """One open page. `abort` ends its connection at once."""

    reader: str | None
    abort: Callable[[], None]
    waiting: "asyncio.Queue[bytes | None]" = field(default_factory=lambda: asyncio.Queue(QUEUE))


class Hub:
    """All open pages of this worker. `dropped` counts those that were too slow."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._clients: set[Client] = set()
        self.dropped = 0
        self._closed = False

    def __len__(self) -> int:
        return len(self._clients)

    def __iter__(self) -> Iterator[Client]:
        return iter(self._clients)

    def join(self, client: Client) -> bool:
        """Whether there was room."""
        if self._closed or len(self._clients) >= self._most:
            return False
        self._clients.add(client)
        return True

    def leave(self, client: Client) -> None:
        """It closed its connection."""
        self._clients.discard(client)

    def send(self, data: bytes, reader: str | None = None) -> None:
        """To all, or to those who look at a reader. The bytes are shared, not copied."""
        for client in list(self._clients):
            if reader is not None and client.reader != reader:
                continue
            try:
                client.waiting.put_nowait(data)
            except asyncio.QueueFull:
                self._clients.discard(client)
                self.dropped += 1
                client.abort()

    def readers(self) -> set[str]:
        """Who is looked at."""
        return {client.reader for client in self._clients if client.reader is not None}

    def close(self) -> None:
        """End all, so that the server can stop."""
        self._closed = True
        for client in list(self._clients):
            self._clients.discard(client)
            client.abort()
