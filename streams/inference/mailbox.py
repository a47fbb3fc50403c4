"""Calls from other threads to an event loop, gathered: a wake-up is a system call, and a batch has many."""

import asyncio
import threading
from collections.abc import Callable


class Mailbox:
    """The loop is woken once for all that gathers until it looks. Thread-safe."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._calls: list[tuple[Callable[..., object], tuple[object, ...]]] = []

    def post(self, call: Callable[..., object], *args: object) -> None:
        """Have the loop call it, in order of posting. Without effect once the loop is closed."""
        with self._lock:
            self._calls.append((call, args))
            if len(self._calls) > 1:
                return  # whoever posted the first has woken it
        try:
            self._loop.call_soon_threadsafe(self._open)
        except RuntimeError:
            if not self._loop.is_closed():  # else nobody is left to hear it
                raise

    def _open(self) -> None:
        with self._lock:
            calls, self._calls = self._calls, []
        for call, args in calls:
            try:
                call(*args)
            except Exception as error:  # one that fails (an observer, say) must not take the others along
                told = {
                    "message": f"what another thread had for the loop failed: {call!r}",
                    "exception": error,
                }
                self._loop.call_exception_handler(told)
