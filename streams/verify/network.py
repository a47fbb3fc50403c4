"""A TCP forwarder on the loopback address, so that one worker's network can be cut and mended."""

import asyncio
import contextlib

from streams.demo.server import HOST

CHUNK_BYTES = 1 << 16


class Forwarder:
    """Passes bytes between whoever connects to `port` and `target_port`.

    While it is cut nothing passes and nothing is closed, as when packets are lost: what was on its way arrives after
    it is mended, which is how late writes of a worker that lost its partitions come about. `mend(lost=True)` breaks
    the connections instead.
    """

    def __init__(self, port: int, target_port: int) -> None:
        self.port = port
        self._target_port = target_port
        self._whole = asyncio.Event()
        self._whole.set()
        self._pipes: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, HOST, self.port)

    def cut(self) -> None:
        self._whole.clear()

    def mend(self, lost: bool) -> None:
        if lost:
            for pipe in self._pipes:
                pipe.cancel()
        self._whole.set()

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        pipes = set(self._pipes)
        for pipe in pipes:
            pipe.cancel()
        await asyncio.gather(*pipes, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._whole.wait()
        try:
            to_reader, to_writer = await asyncio.open_connection(HOST, self._target_port)
        except OSError:  # the broker is down: so is its address
            writer.close()
            return
        pair = [
            asyncio.create_task(self._pass(reader, to_writer)),
            asyncio.create_task(self._pass(to_reader, writer)),
        ]
        self._pipes.update(pair)
        try:
            await asyncio.wait(pair, return_when=asyncio.FIRST_COMPLETED)  # one side is gone: so is the other
        finally:
            for pipe in pair:
                pipe.cancel()
            self._pipes.difference_update(pair)
            for end in (writer, to_writer):
                end.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(CHUNK_BYTES):
                await self._whole.wait()
                writer.write(data)
                await writer.drain()
