"""How payloads come in: each is known already, or is given room and a request of its own. One event loop."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from models.inference.batching import Lane
from models.types import Payload
from streams.inference.answers import Answer
from streams.inference.desk import Desk
from streams.inference.repeats import key_of
from streams.inference.request import Call, Key, Request
from streams.inference.residence import Residence
from streams.inference.rooms import Served

_HASHED_ON_LOOP_BYTES = 1 << 16  # more is hashed on a thread


class Entrance:
    """Of a service."""

    def __init__(
        self,
        desk: Desk,
        residence: Residence,
        clock: Callable[[], float],
        check_open: Callable[[], None],
        hand_over: Callable[[Sequence[Request]], None],
    ) -> None:
        """`check_open` raises InferenceFailed once nothing new is taken; `hand_over` gives requests to the crew."""
        self._desk = desk
        self._residence = residence
        self._clock = clock
        self._check_open = check_open
        self._hand_over = hand_over
        self._hashers = ThreadPoolExecutor(1, "inference-hash")

    def close(self) -> None:
        """Nothing is hashed any more."""
        self._hashers.shutdown(wait=False, cancel_futures=True)

    async def enter(
        self, task: str, served: Served, payloads: Sequence[Payload], lane: Lane, call: Call
    ) -> None:
        """Find or begin a request for each payload, and have the call wait for it."""
        submitted_s = self._clock()
        keys = await self._keys(task, payloads)
        sizes = [len(payload.data) for payload in payloads]
        place = 0
        while place < len(payloads):
            room = served.admission.enter_many(sizes[place:]) if self._residence.here(task) else 0
            found: Answer | Request | None = None
            if not room:
                found = await self._room(task, served, keys[place], sizes[place])
                room = 1 if found is None else 0
            begun, spare_units, spare_bytes = [], 0, 0
            end = place + max(1, room)
            while place < end:
                found = found or self._desk.known(served, keys[place])
                if found is None:
                    found = self._desk.begin(served, keys[place], payloads[place], lane, submitted_s)
                    begun.append(found)
                elif room:
                    spare_units += 1
                    spare_bytes += sizes[place]
                call.wait_for(place, found)
                found = None
                place += 1
            if spare_units:
                served.admission.resize(-spare_units, -spare_bytes)
            if begun:
                self._hand_over(begun)

    async def _keys(self, task: str, payloads: Sequence[Payload]) -> list[Key]:
        if sum([len(payload.data) for payload in payloads]) <= _HASHED_ON_LOOP_BYTES:
            return [key_of(task, payload) for payload in payloads]
        loop = asyncio.get_running_loop()
        keys = await loop.run_in_executor(
            self._hashers, lambda: [key_of(task, payload) for payload in payloads]
        )
        self._check_open()
        return keys

    async def _room(self, task: str, served: Served, key: Key, size_bytes: int) -> Answer | Request | None:
        """Wait until the task is on the device and has room, which is then taken; or until somebody else's request or
        answer for this content is there, which is returned."""
        while not self._residence.here(task):
            await self._residence.wait(task)
            self._check_open()
            found = self._desk.known(served, key)
            if found is not None:
                return found
        await served.admission.enter(size_bytes)
        found = self._desk.known(served, key)  # others came meanwhile
        try:
            self._check_open()
        except BaseException:
            served.admission.resize(-1, -size_bytes)
            raise
        if found is not None:
            served.admission.resize(-1, -size_bytes)
        return found
