"""A small stateful agent for tests of the transport: counts records a key, with a fence, a changelog and outputs.

Its oracle is a dict over the input; it shares no state code with the product's agents.
"""

import json
from collections.abc import Sequence
from typing import Any

from streams.agents.base import Agent, Services
from streams.effects import Effects, Emit
from streams.refusals.rejected import Rejected
from streams.state.changelog import ChangelogReader
from streams.topology.topics import CLICKS, RECOMMENDATIONS, TASTE_CHANGELOG
from streams.transport.batch import PartitionBatch
from streams.transport.consumer import Profile
from streams.transport.durable import Submission

Rows = dict[str, list[int]]  # key -> [count, fence]


class CountingAgent(Agent[list[Any]]):
    name = "counting"
    topic = CLICKS

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self.partitions: dict[int, Rows] = {}
        self._changelog = ChangelogReader(services.settings.kafka, TASTE_CHANGELOG)

    def profile(self) -> Profile:
        return Profile(max_records=200, fetch_wait_ms=8, batches_in_flight=8)

    async def run(self, stream: Any) -> None:
        async for event in stream.noack().events():
            batch: PartitionBatch
            for batch in event.value:
                if not batch.lost:
                    self.submit(batch, [(r.key.decode(), r.offset, r.value) for r in batch.records])

    def decide(self, group: Sequence[Submission[list[Any]]]) -> Effects:
        effects = Effects()
        for submission in group:
            partition = submission.batch.partition
            rows = self.partitions[partition]
            touched: dict[str, int] = {}
            for key, offset, _ in submission.work:
                row = rows.setdefault(key, [0, -1])
                if offset > row[1]:
                    row[0] += 1
                    row[1] = offset
                    touched[key] = offset
            bad = [r for r in submission.batch.records if r.value == b"bad"]
            self.reject(effects, partition, [Rejected(r, "undecodable", "bad") for r in bad])
            keys = [key.encode() for key in touched]
            values = [json.dumps(rows[key]).encode() for key in touched]
            effects.outputs.append(Emit(RECOMMENDATIONS, partition, keys, values))
            effects.changelog.append(Emit(TASTE_CHANGELOG, partition, keys, values))
        return effects

    async def recover(self, partition: int) -> None:
        rows: Rows = {}

        def apply(keys: Sequence[bytes], values: Sequence[bytes | None]) -> None:
            rows.update({k.decode(): json.loads(v) for k, v in zip(keys, values, strict=True) if v})

        await self._changelog.replay(partition, apply)
        self.partitions[partition] = rows

    def drop(self, partition: int) -> None:
        self.partitions.pop(partition, None)

    async def stop(self) -> None:
        await self._changelog.stop()
