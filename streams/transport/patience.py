"""Fetches that leave a broker time enough to look, however much it looks through.

The embedded broker takes a fetch's longest wait for all of its work. What it has not found by then it leaves out,
though it is there, and a partition takes it longer the more batches it keeps. A short wait lets it notice new records
soon, and in the end lets it find none at all, for good. Its answers tell: nothing of a partition that ends beyond what
was asked for, twice in a row at the same offset (once may be a record that came while it answered). Then fetches may
take twice the time, and half of it again once answers come early. Other brokers answer as soon as they have a byte.
"""

from typing import Any

from aiokafka.protocol.fetch import FetchRequest

from streams.clock import Clock, SystemClock

READ_COMMITTED = 1
MOST_MS = 4_000  # below the time in which a request must be answered
ROOM_BYTES = 1 << 20  # an answer with less had room for more
EARLY = 8  # parts of the wait: an answer within one of them is early

Missed = set[tuple[str, int, int]]  # topic, partition, offset asked for


def be_patient(client: Any, clock: Clock | None = None) -> None:
    """Let an aiokafka client's fetches wait longer while a broker comes to no end of looking. aiokafka has no public
    way to say so (reached into: the version is pinned)."""
    clock = clock or SystemClock()
    send = client.send
    least_ms: dict[int, int] = {}
    before: dict[int, Missed] = {}

    async def patient(node_id: int, request: Any, **options: Any) -> Any:
        if not isinstance(request, FetchRequest):
            return await send(node_id, request, **options)
        asked_ms = request._max_wait_ms
        request._max_wait_ms = wait_ms = max(asked_ms, least_ms.get(node_id, 0))
        began_s = clock.monotonic_s()
        answer = await send(node_id, request, **options)
        took_ms = (clock.monotonic_s() - began_s) * 1000
        if took_ms < wait_ms:  # nothing was cut off: this is every answer of a broker that does not look long
            before.pop(node_id, None)
            if took_ms * EARLY < wait_ms and wait_ms > asked_ms:
                least_ms[node_id] = wait_ms // 2
            return answer
        missed, found_bytes = _missed(request, answer)
        if missed & before.get(node_id, set()) and found_bytes < ROOM_BYTES:
            least_ms[node_id] = min(2 * wait_ms, MOST_MS)
        before[node_id] = missed
        return answer

    client.send = patient


def _missed(request: Any, answer: Any) -> tuple[Missed, int]:
    """Where nothing came of what is there, and the size of what came."""
    offsets = {(topic, part): offset for topic, parts in request.topics for part, offset, _ in parts}
    missed: Missed = set()
    found_bytes = 0
    for topic, partitions in answer.topics:
        for partition, error, high, *rest in partitions:
            records = rest[-1]
            if records:
                found_bytes += len(records)
            elif not error:
                end = rest[0] if request._isolation_level == READ_COMMITTED and len(rest) > 1 else high
                offset = offsets.get((topic, partition), end)
                if offset < end:
                    missed.add((topic, partition, offset))
    return missed, found_bytes
