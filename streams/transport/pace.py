"""A consumer's fetches at a pace: a broker is asked at most once in a few milliseconds, and then answers at once.

A fetch costs a worker about what the work on some clicks costs, so records have to gather. A broker could see to that
(`fetch.min.bytes` with a short `fetch.max.wait.ms`), but then a click that comes alone waits in vain, and the embedded
broker keeps what it found until the longest wait is over. So a fetch asks for one byte, and the next one waits here.
"""

import asyncio
from typing import Any

from aiokafka.protocol.fetch import FetchRequest

from streams.clock import Clock


def keep_pace(consumer: Any, pace_s: float, full_bytes: int, clock: Clock) -> None:
    """Let this consumer begin fetches from one broker `pace_s` apart at least; at once after one that brought
    `full_bytes`, since more is waiting there. aiokafka has no public way to say so (reached into: the version is
    pinned)."""
    client = consumer._client
    send = client.send
    next_s: dict[int, float] = {}

    async def paced(node_id: int, request: Any, **options: Any) -> Any:
        if not isinstance(request, FetchRequest):
            return await send(node_id, request, **options)
        wait_s = next_s.get(node_id, 0.0) - clock.monotonic_s()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        began_s = clock.monotonic_s()
        answer = await send(node_id, request, **options)
        next_s[node_id] = 0.0 if _size_bytes(answer) >= full_bytes else began_s + pace_s
        return answer

    client.send = paced


def _size_bytes(answer: Any) -> int:
    """Of the records in a fetch's answer, which stand last with each partition."""
    return sum(len(fields[-1] or b"") for _, partitions in answer.topics for fields in partitions)
