"""An event loop with virtual time, on which several simulated processes run side by side.

Time stands still while anything can run and then jumps to the next timer, so hours cost milliseconds. Each process
has its own queue of callbacks: within one, asyncio's promise holds (first in, first out); between them the seed
decides who runs next. A process that is stopped keeps its queue while the world goes on (SIGSTOP); one that is
killed never runs again, nor do its `finally` blocks (SIGKILL).
"""

import asyncio
import contextvars
import heapq
import random
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Process:
    """What runs, stops and dies as a whole. The world itself (broker, oracle, faults) is process None."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.queue: deque[asyncio.Handle] = deque()
        self.stopped = False
        self.killed = False
        self._context = contextvars.copy_context()
        self._context.run(_PROCESS.set, self)

    def __repr__(self) -> str:
        return self.name

    def run(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Start a task inside the process."""
        return self._context.run(asyncio.get_running_loop().create_task, work)

    def stop(self) -> None:
        """Stand still until `wake`."""
        self.stopped = True

    def wake(self) -> None:
        """Go on with all that arrived meanwhile: an event loop looks at its sockets first, then at its timers."""
        if self.killed:
            return
        self.stopped = False
        timers = [handle for handle in self.queue if isinstance(handle, asyncio.TimerHandle)]
        self.queue = deque(h for h in self.queue if not isinstance(h, asyncio.TimerHandle))
        self.queue += timers

    def kill(self) -> None:
        """Never run again."""
        self.stopped = self.killed = True


_PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


def current() -> Process | None:
    """The process of the code that runs now; None for the world."""
    return _PROCESS.get()


class Hang(AssertionError):
    """Nothing can run and no timer is set."""


class VirtualLoop(asyncio.BaseEventLoop):
    """`chance` decides between processes."""

    # of BaseEventLoop, which its type stubs keep to themselves
    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _stopping: bool

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._now_s = 0.0
        self._chance = chance
        self._world = Process("world")
        self._processes: list[Process] = [self._world]

    def time(self) -> float:
        return self._now_s

    def later(self, delay_s: float, what: Callable[..., object], *args: object) -> None:
        """Call it in the world, whoever asks: what a broker or the network does outlives its clients."""
        self.call_later(delay_s, what, *args, context=_WORLD)

    def process(self, name: str) -> Process:
        """A new process."""
        process = Process(name)
        self._processes.append(process)
        return process

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Done at once, in no time: a thread would take as long as it likes, and no seed be one run."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def _run_once(self) -> None:
        self._deal(self._ready)
        self._ready.clear()
        able = [process for process in self._processes if process.queue and not process.stopped]
        if not able:
            if not self._stopping:
                self._jump()
            return
        chosen = able[0] if len(able) == 1 else self._chance.choice(able)
        queue = chosen.queue
        turns = len(queue)
        if turns > 1 and len(able) > 1:
            turns = self._chance.randint(1, turns)  # others may come between any two callbacks
        while turns and not chosen.stopped and queue:
            turns -= 1
            handle = queue.popleft()
            if not handle.cancelled():
                handle._run()
            if self._stopping:
                return

    def _jump(self) -> None:
        """To the next timer, with all that are due then."""
        timers = self._scheduled
        while timers and timers[0].cancelled():
            heapq.heappop(timers)._scheduled = False  # type: ignore[attr-defined]
        if not timers:
            raise Hang("nothing can run and nothing is due")
        self._now_s = max(self._now_s, timers[0].when())
        due: list[asyncio.Handle] = []
        while timers and timers[0].when() <= self._now_s:
            handle = heapq.heappop(timers)
            handle._scheduled = False  # type: ignore[attr-defined]
            due.append(handle)
        self._deal(due)

    def _deal(self, handles: "deque[asyncio.Handle] | list[asyncio.Handle]") -> None:
        for handle in handles:
            if not handle.cancelled():
                process = handle._context.get(_PROCESS)  # type: ignore[attr-defined]
                (process or self._world).queue.append(handle)

    def end(self, patience: int = 2000) -> None:
        """Unwind every task of every process, so that nothing is left for the garbage collector to complain about."""
        self.set_exception_handler(lambda loop, context: None)
        for process in self._processes:
            process.stopped = False
        asyncio.events._set_running_loop(self)
        try:
            self._unwind(patience)
        finally:
            asyncio.events._set_running_loop(None)
        self.close()

    def _unwind(self, patience: int) -> None:
        for _ in range(20):
            tasks = asyncio.all_tasks(self)
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            for _ in range(patience):
                self._deal(self._ready)
                self._ready.clear()
                able = [process for process in self._processes if process.queue]
                if not able:
                    break
                for process in able:
                    for _ in range(len(process.queue)):
                        handle = process.queue.popleft()
                        if not handle.cancelled():
                            handle._run()
        for task in asyncio.all_tasks(self):
            task._log_destroy_pending = False  # type: ignore[attr-defined]


_WORLD = contextvars.Context()


class VirtualClock:
    """A `streams.clock.Clock` of the loop's time."""

    EPOCH_MS = 1_750_000_000_000

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def monotonic_s(self) -> float:
        return self._loop.time()

    def wall_ms(self) -> int:
        return self.EPOCH_MS + int(self._loop.time() * 1000)
