"""Agents for tests of flow control: one whose decisions take their time, one that breaks on a certain record."""

import time
from collections.abc import Sequence
from typing import Any

from streams.agents.base import Agent
from streams.effects import Effects, Emit
from streams.topology.topics import CLICKS, RECOMMENDATIONS
from streams.transport.batch import PartitionBatch
from streams.transport.consumer import Profile
from streams.transport.durable import Submission


class SlowAgent(Agent[None]):
    """Hands batches of `slow_partition` on only while `open_gate` is set; passes values on as they are."""

    name = "slow"
    topic = CLICKS
    slow_partition = 0

    def __init__(self, services: Any) -> None:
        super().__init__(services)
        import asyncio

        self.gate = asyncio.Event()
        self.kept: list[PartitionBatch] = []
        self.seen: dict[int, int] = {}

    def profile(self) -> Profile:
        return Profile(max_records=50, fetch_wait_ms=8, batches_in_flight=4)

    async def run(self, stream: Any) -> None:
        async for event in stream.noack().events():
            for batch in event.value:
                self._take(batch)

    def _take(self, batch: PartitionBatch) -> None:
        self.seen[batch.partition] = self.seen.get(batch.partition, 0) + len(batch.records)
        if batch.partition == self.slow_partition and not self.gate.is_set():
            self.kept.append(batch)
        else:
            self.submit(batch, None)

    def open_gate(self) -> None:
        self.gate.set()
        for batch in self.kept:
            self.submit(batch, None)
        self.kept.clear()

    def decide(self, group: Sequence[Submission[None]]) -> Effects:
        return Effects(
            outputs=[
                Emit(RECOMMENDATIONS, s.batch.partition, [r.key for r in s.batch.records], _values(s.batch))
                for s in group
            ]
        )


class SleepyAgent(SlowAgent):
    """Each group takes 30 ms of the event loop."""

    name = "sleepy"
    slow_partition = -1

    def decide(self, group: Sequence[Submission[None]]) -> Effects:
        time.sleep(0.03)
        return super().decide(group)


class PoisonAgent(SlowAgent):
    """Breaks on the value `poison`."""

    name = "poison"
    slow_partition = -1

    def decide(self, group: Sequence[Submission[None]]) -> Effects:
        if any(record.value == b"poison" for s in group for record in s.batch.records):
            raise ZeroDivisionError("a bug of the agent")
        return super().decide(group)


class PoisonRunAgent(SlowAgent):
    """Breaks on the value `poison` while it decodes."""

    name = "poison_run"
    slow_partition = -1

    async def run(self, stream: Any) -> None:
        async for event in stream.noack().events():
            for batch in event.value:
                if any(record.value == b"poison" for record in batch.records):
                    raise ZeroDivisionError("a bug of the agent")
                self.submit(batch, None)


def _values(batch: PartitionBatch) -> list[bytes | None]:
    return [record.value[:10] if record.value else None for record in batch.records]
