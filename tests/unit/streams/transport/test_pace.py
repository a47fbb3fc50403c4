"""Fetches at a pace: on virtual time, with a client that answers after a millisecond."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.protocol.fetch import FetchRequest

from simulated.loop import VirtualClock, VirtualLoop
from streams.transport.pace import keep_pace

PACE_S, FULL_BYTES, ROUND_TRIP_S = 0.008, 1000, 0.001
FETCH = FetchRequest(8, 1, 1 << 20, 0, [("clicks", [(0, 0, 1 << 20)])])


class _Client:
    """Notes when a request leaves, and answers with so many bytes of records."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.sent_ms: list[tuple[int, float]] = []
        self.answer_bytes = 100

    async def send(self, node_id: int, request: Any) -> Any:
        self.sent_ms.append((node_id, round(self._loop.time() * 1000, 3)))
        await asyncio.sleep(ROUND_TRIP_S)
        records = b"x" * self.answer_bytes
        return SimpleNamespace(topics=[("clicks", [(0, 0, 5, 5, [], records), (1, 0, 5, 5, [], None)])])


def play(story: Callable[[_Client], Awaitable[None]]) -> list[tuple[int, float]]:
    """When each request left, as (broker, milliseconds)."""
    loop = VirtualLoop(random.Random(1))
    client = _Client(loop)
    keep_pace(SimpleNamespace(_client=client), PACE_S, FULL_BYTES, VirtualClock(loop))
    try:
        loop.run_until_complete(story(client))
    finally:
        loop.close()
    return client.sent_ms


def test_fetches_from_a_broker_begin_a_pace_apart_and_the_first_at_once() -> None:
    async def story(client: _Client) -> None:
        for _ in range(3):
            await client.send(1, FETCH)

    assert play(story) == [(1, 0), (1, 8), (1, 16)]


def test_after_a_pause_a_fetch_waits_for_nothing() -> None:
    async def story(client: _Client) -> None:
        await client.send(1, FETCH)
        await asyncio.sleep(0.1)
        await client.send(1, FETCH)

    assert play(story) == [(1, 0), (1, 101)]


@pytest.mark.parametrize(("answer_bytes", "then_ms"), [(FULL_BYTES, 1), (FULL_BYTES - 1, 8)])
def test_a_full_fetch_is_followed_at_once(answer_bytes: int, then_ms: int) -> None:
    async def story(client: _Client) -> None:
        client.answer_bytes = answer_bytes
        await client.send(1, FETCH)
        await client.send(1, FETCH)

    assert play(story) == [(1, 0), (1, then_ms)]


def test_brokers_and_other_requests_do_not_wait_for_one_another() -> None:
    async def story(client: _Client) -> None:
        await client.send(1, FETCH)
        await client.send(2, FETCH)
        await client.send(1, object())

    assert play(story) == [(1, 0), (2, 1), (1, 2)]
