"""Buffers that bytes pass through on their way to a device, used again and again. Pure but for the allocation.

To pin memory takes longer than to copy what it holds, so a buffer is pinned once. Sizes are powers of two, so that a
buffer fits again; what is held is bounded, the least used goes first.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

B = TypeVar("B")

_LEAST_BYTES = 1 << 12


class Staging(Generic[B]):
    """Not thread-safe: the device's thread uses it."""

    def __init__(self, allocate: Callable[[int], B], most_bytes: int) -> None:
        """`allocate` gives a buffer of so many bytes; at most `most_bytes` lie about unused."""
        self._allocate = allocate
        self._most_bytes = most_bytes
        self._free: OrderedDict[int, list[B]] = OrderedDict()  # by size, least recently used first
        self.free_bytes = 0
        self.allocated = 0  # how often, since the start
        self.reused = 0

    def take(self, size_bytes: int) -> tuple[B, int]:
        """A buffer of at least this size, and its size. It is the caller's until `give_back`."""
        room = max(_LEAST_BYTES, 1 << (size_bytes - 1).bit_length()) if size_bytes > 0 else _LEAST_BYTES
        free = self._free.get(room)
        if free:
            self._free.move_to_end(room)
            self.free_bytes -= room
            self.reused += 1
            return free.pop(), room
        self.allocated += 1
        return self._allocate(room), room

    def give_back(self, buffer: B, room: int) -> None:
        """It is copied; the next may have it. `room`: as `take` gave it."""
        self._free.setdefault(room, []).append(buffer)
        self._free.move_to_end(room)
        self.free_bytes += room
        while self.free_bytes > self._most_bytes:
            size, free = next(iter(self._free.items()))
            if not free:
                del self._free[size]
                continue
            free.pop()
            self.free_bytes -= size
