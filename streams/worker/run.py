"""A worker from its start to its end: until SIGTERM, SIGINT or a failure, and never longer than its grace."""

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

from models.errors import ModelError
from streams.clock import Clock, SystemClock
from streams.errors import EnvironmentProblem, Fatal, UserMistake
from streams.settings import Settings
from streams.worker.allocator import keep_freed_memory
from streams.worker.app import Worker

log = logging.getLogger(__name__)


async def run_worker(
    settings: Settings,
    *,
    ready: asyncio.Event | None = None,
    stop: asyncio.Event | None = None,
    clock: Clock | None = None,
) -> int:
    """Run a worker until SIGTERM, SIGINT or `stop`; 0 after a clean end. Raises what stopped it otherwise.

    The process ends within `worker.grace_s` of the signal, whatever hangs.
    """
    stop = stop or asyncio.Event()
    keep_freed_memory()
    with _Deadline(settings.worker.grace_s) as deadline, _signals(stop):
        worker = Worker(settings, clock or SystemClock())
        stopped = asyncio.create_task(stop.wait())
        starting = asyncio.create_task(worker.start())
        try:
            await _first(starting, stopped, worker.failed)
            if starting.done():
                starting.result()
            while not stopped.done() and not worker.failed.done():
                if ready is not None and worker.ready:
                    ready.set()
                await _first(stopped, worker.failed, timeout_s=0.1)
        finally:
            deadline.start()
            starting.cancel()
            stopped.cancel()
            await worker.stop()
    if worker.failed.done():
        error = worker.failed.result()
        known = isinstance(error, (EnvironmentProblem, UserMistake, Fatal, ModelError))
        raise error if known else Fatal(f"the worker failed: {error!r}") from error
    return 0


async def _first(*futures: "asyncio.Future[Any]", timeout_s: float | None = None) -> None:
    await asyncio.wait(futures, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)


@contextlib.contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)

    def asked(name: str) -> None:
        if not stop.is_set():
            log.info("%s: finishing what is in flight", name)
            stop.set()

    for number in numbers:
        loop.add_signal_handler(number, asked, number.name)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


class _Deadline:
    """Ends the process when shutdown takes longer than the grace. On a thread: it must fire even when the
    event loop is stuck."""

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._timer = threading.Timer(grace_s, self._give_up)
        self._timer.daemon = True

    def start(self) -> None:
        self._timer.start()

    def __enter__(self) -> "_Deadline":
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _give_up(self) -> None:
        log.error(
            "still not stopped after %.0f s: ending now; unfinished batches will be repeated", self._grace_s
        )
        logging.shutdown()
        os._exit(1)
