"""Tasks that keep what an agent reads beside its own topic up to date, from before its group is joined to its end."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from streams.state.changelog import TableFollower


class Goes(Protocol):
    """Something that may have work to do for ever."""

    @property
    def goes_on(self) -> bool: ...

    async def run(self) -> None: ...


class Following:
    """`failed` hears what one of them ended with: to go on from a table that stands still would be wrong without a
    word."""

    def __init__(
        self, followers: Sequence[TableFollower], failed: Callable[[BaseException | None], None]
    ) -> None:
        self._followers = followers
        self._failed = failed
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, beside: Sequence[Goes]) -> None:
        """Return once all that was in the tables has been read, or one of them failed; `beside` runs from then on."""
        self._tasks = [asyncio.create_task(follower.run()) for follower in self._followers]
        caught_up = asyncio.create_task(self._caught_up())
        await asyncio.wait({caught_up, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
        caught_up.cancel()
        self._tasks += [asyncio.create_task(one.run()) for one in beside if one.goes_on]
        for task in self._tasks:
            task.add_done_callback(self._stopped)

    async def stop(self) -> None:
        """End them, bounded."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)

    async def _caught_up(self) -> None:
        for follower in self._followers:
            await follower.caught_up.wait()

    def _stopped(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled():
            self._failed(task.exception())
