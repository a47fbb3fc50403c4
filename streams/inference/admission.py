"""A bound on what is in flight, in units and bytes; who comes beyond it waits in order. One event loop."""

import asyncio
from collections import deque
from collections.abc import Sequence


class Admission:
    """Room for one task's work. Work that is over the bound by itself is let in when nothing else is."""

    def __init__(self, limit_units: int, limit_bytes: int) -> None:
        self._limit_units = limit_units
        self._limit_bytes = limit_bytes
        self.units = 0
        self.bytes = 0
        self._waiters: deque[tuple[asyncio.Future[None], int]] = deque()

    @property
    def saturated(self) -> bool:
        """Whether someone waits, or the next would."""
        return bool(self._waiters) or not self._fits(1)

    async def enter(self, size_bytes: int) -> None:
        """Take room for one unit of this size; waits for it. Safe to cancel. Raises what `fail` was given."""
        if self.enter_now(size_bytes):
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((waiter, size_bytes))
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.resize(-1, -size_bytes)  # let in and cancelled within one turn of the loop
            else:
                self._let_in()  # it may have held up smaller ones behind it
            raise

    def enter_now(self, size_bytes: int) -> bool:
        """Take the room if it is there and nobody waits."""
        if self._waiters or not self._fits(size_bytes):
            return False
        self.units += 1
        self.bytes += size_bytes
        return True

    def enter_many(self, sizes_bytes: Sequence[int], first: int = 0) -> int:
        """Take the room for as many of these from the `first` on, in order, as there is room for at once; how many."""
        if self._waiters:
            return 0
        units, size_bytes = self.units, self.bytes
        end = first
        for size in sizes_bytes[first:] if first else sizes_bytes:
            if units and (units >= self._limit_units or size_bytes + size > self._limit_bytes):
                break
            units += 1
            size_bytes += size
            end += 1
        self.units, self.bytes = units, size_bytes
        return end - first

    def resize(self, units: int, size_bytes: int) -> None:
        """Take more than was asked for (decoded work is larger than its payload), or give back (negative)."""
        self.units += units
        self.bytes += size_bytes
        self._let_in()

    def fail(self, error: Exception) -> None:
        """End all who wait."""
        while self._waiters:
            waiter, _ = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(error)

    def _let_in(self) -> None:
        while self._waiters:
            waiter, size_bytes = self._waiters[0]
            if waiter.done():  # cancelled
                self._waiters.popleft()
            elif self._fits(size_bytes):
                self._waiters.popleft()
                self.units += 1
                self.bytes += size_bytes
                waiter.set_result(None)
            else:
                return

    def _fits(self, size_bytes: int) -> bool:
        within = self.units < self._limit_units and self.bytes + size_bytes <= self._limit_bytes
        return within or self.units == 0
