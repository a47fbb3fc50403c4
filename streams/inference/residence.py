"""Which models are on the device, under one bound in bytes: the idle ones give way to the one that is wanted.

While one is wanted that does not fit yet, nothing new is let in for the others: they run dry, one of them leaves, and
its callers want it back in their turn. So nobody starves, and a swap costs all that had gathered, not one payload.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping

from models.types import Task
from streams.inference.rooms import Served

Load = Callable[[str], "asyncio.Future[Task]"]
Unload = Callable[[str], None]


class Residence:
    """One event loop."""

    def __init__(
        self,
        tasks: Mapping[str, Served],
        limit_bytes: int,
        idle_s: float | None,
        clock: Callable[[], float],
        load: Load,
        unload: Unload,
    ) -> None:
        """`idle_s`: unload what was not asked for so long; None: only for another's sake."""
        self._tasks = tasks
        self._limit_bytes = limit_bytes
        self._idle_s = idle_s
        self._clock = clock
        self._load = load
        self._unload = unload
        self._used_s: dict[str, float] = {}
        self._wanted: deque[str] = deque()
        self._turn: str | None = None  # the one that was just loaded, while its callers are let in
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._changed = asyncio.Event()
        self._loading: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look for idle ones."""
        if self._idle_s is not None:
            self._timer = asyncio.get_running_loop().call_later(self._idle_s / 2, self._sweep)

    def stop(self) -> None:
        """Nothing is loaded or unloaded any more; those who wait are woken, and find the service closed."""
        if self._timer is not None:
            self._timer.cancel()
        if self._loading is not None:
            self._loading.cancel()
        self._wanted.clear()
        self._wake()

    def here(self, name: str) -> bool:
        """Whether work for it may be let in now."""
        self._used_s[name] = self._clock()
        return self._tasks[name].task is not None and (not self._wanted or name == self._turn)

    async def wait(self, name: str) -> None:
        """Until things have changed: look again. Has it loaded if it is not. Safe to cancel."""
        if self._tasks[name].task is None and name not in self._wanted:
            self._wanted.append(name)
            if self._loading is None or self._loading.done():
                self._loading = asyncio.create_task(self._load_wanted())
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def ended(self) -> None:
        """A payload left: its task may be idle."""
        self._changed.set()

    async def _load_wanted(self) -> None:
        while self._wanted:
            name = self._wanted[0]
            while (leaving := self._leaving(name)) is None:
                self._changed.clear()
                await self._changed.wait()
            for other in leaving:
                self._drop(other)
            self._tasks[name].task = await self._load(name)
            self._used_s[name] = self._clock()
            self._wanted.popleft()
            # All who came for it are let in before the next one is wanted.
            self._turn = name
            self._wake()
            await asyncio.sleep(0)
            self._turn = None

    def _leaving(self, name: str) -> list[str] | None:
        from models.inference.memory import victims  # torch is imported by now

        loaded = {one: served.size_bytes for one, served in self._tasks.items() if served.task is not None}
        busy = [one for one in loaded if self._tasks[one].busy]
        return victims(self._tasks[name].size_bytes, self._limit_bytes, loaded, self._used_s, busy)

    def _drop(self, name: str) -> None:
        self._tasks[name].task = None
        self._unload(name)

    def _sweep(self) -> None:
        assert self._idle_s is not None
        now_s = self._clock()
        for name, served in self._tasks.items():
            unused_s = now_s - self._used_s.setdefault(name, now_s)
            if served.task is not None and not served.busy and unused_s >= self._idle_s and not self._wanted:
                self._drop(name)
        self.start()

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
