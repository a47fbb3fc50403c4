"""Blocking fetches on threads of their own, each given up after a while, so that a share that hangs holds nobody up.

Python cannot end a thread that hangs in a system call: it is left behind, as a daemon, so that the process can end
without it; how many there may be is bounded. (`asyncio.to_thread` uses threads that the end of the process waits for.)
"""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

from streams.errors import Retry

T = TypeVar("T")


class Fetches:
    """At most `at_most` at a time, those that hang included. For one event loop."""

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._lock = threading.Lock()
        self._running = 0

    async def run(self, fetch: Callable[[], T], within_s: float, reason: str) -> T:
        """What `fetch` returns or raises. Raises Retry, with the reason, when it takes longer, or too many hang."""
        with self._lock:
            if self._running >= self._at_most:
                raise Retry(f"{self._running} fetches hang already", reason)
            self._running += 1
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def give(result: T | None, error: BaseException | None) -> None:
            if answer.done():  # nobody waits any more
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(result)  # type: ignore[arg-type]

        def work() -> None:
            result, error = None, None
            try:
                result = fetch()
            except BaseException as raised:
                error = raised
            finally:
                with self._lock:
                    self._running -= 1
            if not loop.is_closed():
                loop.call_soon_threadsafe(give, result, error)

        threading.Thread(target=work, name="fetch", daemon=True).start()
        try:
            return await asyncio.wait_for(answer, within_s)
        except asyncio.TimeoutError as error:
            raise Retry(f"not fetched within {within_s:g} s", reason) from error
