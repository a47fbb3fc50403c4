"""A simulated `streams.state.batches.BatchFetcher`: what `streams.state.changelog` asks of it, and the taking apart of
its answers. The real one is compared with a plain consumer on real brokers (`broker/test_changelog_reader.py`)."""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition

from simulated.broker import Broker
from simulated.log import Stored
from simulated.network import Network
from streams.errors import Retry
from streams.sections.kafka import Kafka
from streams.state.batches import FETCH_WAIT_MS, QUIET_FETCHES


@dataclass(frozen=True, slots=True)
class Fetched:
    """As the real one, with records instead of bytes."""

    next_offset: int
    end: int
    found: list[Stored]


class SimulatedFetcher:
    def __init__(
        self, chance: random.Random, broker: Broker, network: Network, kafka: Kafka, topic: str
    ) -> None:
        self._chance = chance
        self._broker = broker
        self._network = network
        self._timeout_s = kafka.request_timeout_s
        self._topic = topic

    async def start(self) -> None:
        await self._network.call(self._timeout_s, lambda: None)

    async def stop(self) -> None: ...

    async def bounds(self, partition: int) -> tuple[int, int]:
        return 0, await self._ask(partition, lambda log: log.stable)

    async def end_seen_from(self, partition: int, offset: int) -> int | None:
        end: int = await self._ask(partition, lambda log: log.end)
        return end if offset <= end else None

    async def fetch(self, partition: int, offset: int) -> Fetched:
        """Raises Retry when nothing comes for some seconds."""
        most = self._chance.randint(1, 200)  # answers are cut anywhere
        for _ in range(QUIET_FETCHES):
            found, following = await self._ask(partition, lambda log: log.read(offset, most))
            if following > offset:
                return Fetched(following, await self._ask(partition, lambda log: log.end), found)
            await asyncio.sleep(FETCH_WAIT_MS / 1000)
        raise Retry(f"{self._topic}[{partition}] stopped answering at offset {offset}")

    async def _ask(self, partition: int, what: Any) -> Any:
        log = self._broker.log(TopicPartition(self._topic, partition))
        return await self._network.call(self._timeout_s, lambda: what(log))


def records(fetched: Fetched) -> Iterator[tuple[list[bytes], list[bytes | None], int]]:
    """Keys and values at once."""
    if fetched.found:
        yield [r.key or b"" for r in fetched.found], [r.value for r in fetched.found], fetched.next_offset
