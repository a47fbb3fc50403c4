"""What is done to workers and brokers, one after the other; those that last run on beside the next."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from typing import Any

from streams.clock import Clock
from streams.demo.broker import EmbeddedBroker
from streams.demo.kafka import KafkaBroker
from streams.verify.disk import damage, mend
from streams.verify.network import Forwarder
from streams.verify.plan import Report
from streams.verify.workers import Place

PAUSE_S = (0.5, 4.0)  # between two faults: kills in the middle of a recovery are meant to happen
END_S = 25.0  # from SIGTERM to the end of a worker
MORE_THAN_A_SESSION_S = 3.0
JUMP_MS = 86_400_000  # a clock is wrong by a day at most

Broker = EmbeddedBroker | KafkaBroker
Say = Callable[[str], None]


class Faults:
    """Injects kinds of faults at places drawn from the seed."""

    def __init__(
        self,
        places: Sequence[Place],
        forwarders: Sequence[Forwarder],
        broker: Broker,
        session_s: float,
        seed: int,
        clock: Clock,
        say: Say,
        report: Report,
    ) -> None:
        self._places = places
        self._forwarders = forwarders
        self._broker = broker
        self._session_s = session_s
        self._random = Random(seed)
        self._clock = clock
        self._began_s = clock.monotonic_s()
        self._say = say
        self._report = report
        self._lasting: dict[str, asyncio.Task[None]] = {}  # by what it holds: a place, or the broker

    async def inject_all(self, kinds: Sequence[str], check: Callable[[], None]) -> None:
        """One after the other; returns when all is mended. `check` raises when a worker ended by itself."""
        try:
            for kind in kinds:
                await asyncio.sleep(self._random.uniform(*PAUSE_S))
                check()
                await self._inject(kind)
            await self._until_mended(0)
        finally:
            for task in self._lasting.values():
                task.cancel()

    async def _inject(self, kind: str) -> None:
        if kind == "broker":
            if "broker" in self._lasting:
                await self._lasting["broker"]
            self._note(kind, "broker")
            self._last("broker", self._restart())
            return
        await self._until_mended(len(self._places) - 1)
        place = self._random.choice([place for place in self._places if place.name not in self._lasting])
        self._note(kind, place.name)
        long_s = self._session_s + MORE_THAN_A_SESSION_S * self._random.uniform(0.3, 1.5)
        if kind == "kill":
            place.kill()
            place.start()
        elif kind == "term":
            self._last(place.name, self._end_and_start(place))
        elif kind == "stop":
            self._last(place.name, self._freeze(place, long_s))
        elif kind == "disk":
            self._last(place.name, self._spoil_disk(place))
        elif kind == "clock":
            place.set_clock(self._random.randrange(-JUMP_MS, JUMP_MS))
        else:
            lost = self._random.random() < 0.5
            self._last(place.name, self._cut(self._forwarders[self._places.index(place)], long_s, lost))

    def _note(self, kind: str, where: str) -> None:
        at_s = round(self._clock.monotonic_s() - self._began_s, 1)
        self._report.faults.append({"at_s": at_s, "kind": kind, "where": where})
        self._say(f"{at_s:7.1f} s  {kind} {where}")

    def _last(self, holds: str, work: Coroutine[Any, Any, None]) -> None:
        self._lasting[holds] = asyncio.create_task(work)

    async def _until_mended(self, at_most: int) -> None:
        """Until at most so many places are held; what went wrong meanwhile is raised."""
        while True:
            for holds, task in list(self._lasting.items()):
                if task.done():
                    del self._lasting[holds]
                    task.result()
            held = [task for holds, task in self._lasting.items() if at_most == 0 or holds != "broker"]
            if len(held) <= at_most:
                return
            await asyncio.wait(held, return_when=asyncio.FIRST_COMPLETED)

    async def _end_and_start(self, place: Place) -> None:
        problem = await asyncio.to_thread(place.terminate, END_S)
        if problem:
            self._report.judgement.differences.append(problem)
        place.start()

    async def _freeze(self, place: Place, seconds: float) -> None:
        place.freeze()
        await asyncio.sleep(seconds)
        place.thaw()

    async def _spoil_disk(self, place: Place) -> None:
        """The worker finds out when it reads its state back."""
        done = await asyncio.to_thread(damage, place.snapshots, self._random)
        self._say(f"            {done}")
        place.kill()
        place.start()
        await asyncio.sleep(self._session_s)
        mend(place.snapshots)

    async def _cut(self, forwarder: Forwarder, seconds: float, lost: bool) -> None:
        forwarder.cut()
        await asyncio.sleep(seconds)
        forwarder.mend(lost)

    async def _restart(self) -> None:
        assert isinstance(self._broker, KafkaBroker)
        down_s = self._random.uniform(0, 3)
        await asyncio.to_thread(self._broker.stop)
        await asyncio.sleep(down_s)
        await asyncio.to_thread(self._broker.start)
