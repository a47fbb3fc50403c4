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


SWEEP_S = 1.0  # for tasks that are left when the worker has stopped


def run_process(settings: Settings, clock: Clock | None = None) -> int:
    """`run_worker`, as all that this process does. When it has stopped, nothing is waited for any more: `asyncio.run`
    would wait, beyond every grace, for a task that does not take its cancellation or a thread that hangs."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(run_worker(settings, clock=clock))
    finally:
        loop.run_until_complete(_sweep())


async def _sweep() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if not left:
        return
    _, hung = await asyncio.wait(left, timeout=SWEEP_S)
    if hung:
        log.warning("%d tasks did not end: %s", len(hung), ", ".join(repr(task.get_coro()) for task in hung))


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
