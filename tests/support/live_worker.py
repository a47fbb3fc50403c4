"""A worker with its page in a thread of its own, so that a test may drive a browser; media without models."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from running import running
from streams.agents.base import Services
from streams.agents.media import UploadsAgent
from streams.settings import Settings
from streams.worker.app import Worker


class UploadsWithoutModels(UploadsAgent):
    """The real agent with no task: what it reads is dead-lettered as `unsupported`; labels come from elsewhere."""

    companions: ClassVar[tuple[str, ...]] = ()

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self.tasks = ()


class LiveWorker:
    """Started when built, ready then; `stop` ends it as SIGTERM would."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self.worker: Worker | None = None
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
        self._thread.start()
        assert self._ready.wait(120), "the worker is not ready"
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self._error = error
        finally:
            self._ready.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with running(self._settings) as worker:
            self.worker = worker
            self._ready.set()
            await self._stop.wait()

    def call(self, work: Coroutine[Any, Any, Any], within_s: float = 90.0) -> Any:
        """Run on the worker's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(within_s)

    def do(self, work: Callable[[], Any]) -> Any:
        """Call on the worker's loop."""

        async def one() -> Any:
            return work()

        return self.call(one())

    @property
    def port(self) -> int:
        assert self.worker is not None
        return self.worker.port.port

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(90)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error
