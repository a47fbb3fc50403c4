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
        self._gathered: list[Request] = []
        self._turn_is_open = False

    def close(self) -> None:
        """Nothing is hashed any more."""
        self._hashers.shutdown(wait=False, cancel_futures=True)

    async def enter(
        self, task: str, served: Served, payloads: Sequence[Payload], lane: Lane, call: Call
    ) -> None:
        """Find or begin a request for each payload, and have the call wait for it."""
        submitted_s = self._clock()
        sizes = [len(payload.data) for payload in payloads]
        if sum(sizes) <= _HASHED_ON_LOOP_BYTES:
            keys = [key_of(task, payload) for payload in payloads]
        else:
            keys = await self._hashed(task, payloads)
        place = 0
        while place < len(payloads):
            room = served.admission.enter_many(sizes, place) if self._residence.here(task) else 0
            if not room:
                found = await self._room(task, served, keys[place], sizes[place])
                if found is not None:
                    call.wait_for(place, found)
                    place += 1
                    continue
                room = 1
            end = place + room
            begun = self._desk.take_in(
                served, keys[place:end], payloads[place:end], lane, submitted_s, call, place
            )
            if len(begun) < room:
                spare = sum(sizes[place:end]) - sum([request.bytes for request in begun])
                served.admission.resize(len(begun) - room, -spare)
            self._gather(begun)
            place = end

    def _gather(self, begun: list[Request]) -> None:
        """To the crew at once; what else comes within this turn of the loop goes together at its end, since calling a
        thread costs more than an item does."""
        if not begun:
            return
        if self._turn_is_open:
            self._gathered += begun
            return
        self._turn_is_open = True
        asyncio.get_running_loop().call_soon(self._end_turn)
        self._hand_over(begun)

    def _end_turn(self) -> None:
        self._turn_is_open = False
        if self._gathered:
            gathered, self._gathered = self._gathered, []
            self._hand_over(gathered)

    async def _hashed(self, task: str, payloads: Sequence[Payload]) -> list[Key]:
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
