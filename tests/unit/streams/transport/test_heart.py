"""Heartbeats of partitions that come and go while they are sent."""

import asyncio
from typing import Any

from streams.clock import SystemClock
from streams.settings import load
from streams.topology.topics import CLICKS
from streams.transport.heart import Heart, Pulse


def test_a_partition_that_leaves_while_others_are_sent_does_not_begin_again() -> None:
    """Its series would stand still, and alarm, for ever."""
    owned, sent = [0, 1, 2], []

    def began(partition: int, now_ms: int) -> None:
        assert partition in owned

    class Producer:
        async def send(self, topic: str, value: bytes, key: bytes, partition: int, headers: Any) -> Any:
            sent.append(partition)
            owned.clear()
            await asyncio.sleep(0)
            return asyncio.get_running_loop().create_future()

    async def main() -> None:
        pulse = Pulse(CLICKS, lambda: list(owned), began, lambda: None)
        await Heart(load().kafka, 1.0, SystemClock(), [pulse])._beat(Producer())
        assert sent == [0, 1, 2]

    asyncio.run(main())
