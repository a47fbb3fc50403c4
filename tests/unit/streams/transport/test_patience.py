"""Longer waits for a broker that takes a fetch's wait for all of its looking: on virtual time, with such a broker."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

from aiokafka.protocol.fetch import FetchRequest

from simulated.loop import VirtualClock, VirtualLoop
from streams.transport.patience import EARLY, MOST_MS, be_patient

WAIT_MS = 20


class _Broker:
    """Takes `look_ms` to find what one partition holds beyond the offset asked for, and leaves it out when the wait is
    shorter."""

    def __init__(self, look_ms: float, end: int = 5, error: int = 0) -> None:
        self.look_ms, self.end, self.error = look_ms, end, error
        self.waits_ms: list[int] = []

    async def send(self, node_id: int, request: Any) -> Any:
        if not isinstance(request, FetchRequest):
            return None
        wait_ms: int = request._max_wait_ms
        self.waits_ms.append(wait_ms)
        offset = request.topics[0][1][0][1]
        in_time = offset < self.end and self.look_ms <= wait_ms
        await asyncio.sleep((self.look_ms if in_time else wait_ms) / 1000)
        records = b"x" * 100 if in_time else b""
        return SimpleNamespace(topics=[("clicks", [(0, self.error, self.end, self.end, 0, [], -1, records)])])


def _fetch(offset: int) -> FetchRequest:
    return FetchRequest(WAIT_MS, 1, 1 << 20, 1, [("clicks", [(0, offset, 1 << 20)])])


def _played(broker: _Broker, story: Callable[[Any], Awaitable[None]]) -> list[int]:
    """The waits of all fetches, in milliseconds."""
    loop = VirtualLoop(random.Random(1))
    client = SimpleNamespace(send=broker.send)
    be_patient(client, VirtualClock(loop))
    try:
        loop.run_until_complete(story(client))
    finally:
        loop.close()
    return broker.waits_ms


def test_a_broker_that_is_cut_off_twice_gets_twice_the_time_until_it_finds() -> None:
    async def story(client: Any) -> None:
        for _ in range(6):
            await client.send(1, _fetch(0))

    assert _played(_Broker(look_ms=70), story) == [20, 20, 40, 80, 80, 80]


def test_a_record_that_came_while_the_answer_was_made_is_no_reason() -> None:
    broker = _Broker(look_ms=1)

    async def story(client: Any) -> None:
        broker.look_ms = 70
        await client.send(1, _fetch(0))
        broker.look_ms = 1
        await client.send(1, _fetch(0))
        await client.send(1, _fetch(0))

    assert _played(broker, story) == [20, 20, 20]


def test_nothing_new_and_errors_are_no_reason() -> None:
    async def story(client: Any) -> None:
        for _ in range(3):
            await client.send(1, _fetch(5))

    assert _played(_Broker(look_ms=70), story) == [20, 20, 20]

    async def refused(client: Any) -> None:
        for _ in range(3):
            await client.send(1, _fetch(0))

    assert _played(_Broker(look_ms=70, error=6), refused) == [20, 20, 20]


def test_answers_that_come_early_take_the_time_back_to_what_was_asked() -> None:
    broker = _Broker(look_ms=70)

    async def story(client: Any) -> None:
        for _ in range(4):
            await client.send(1, _fetch(0))
        broker.look_ms = 20 / EARLY / 2
        for _ in range(4):
            await client.send(1, _fetch(0))

    assert _played(broker, story) == [20, 20, 40, 80, 80, 40, 20, 20]


def test_the_time_has_a_bound_and_brokers_have_their_own() -> None:
    async def story(client: Any) -> None:
        for _ in range(12):
            await client.send(1, _fetch(0))
        await client.send(2, _fetch(0))

    waits_ms = _played(_Broker(look_ms=1e6), story)
    assert max(waits_ms) == waits_ms[-2] == MOST_MS
    assert waits_ms[-1] == WAIT_MS
