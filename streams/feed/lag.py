"""How far each agent's consumer group is behind, as the brokers know it: whether or not a worker runs.

Records: the end of the partition minus the committed offset. Seconds: the age of the first record that is not done.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition

from streams.feed.tail import POLL_MS, reading
from streams.settings import Settings
from streams.topology.topics import prefixed

POLLS = 25
"""At most so many polls for the first records not done: five seconds."""


@dataclass(frozen=True, slots=True)
class Lag:
    """One partition of one agent's group. `committed` None: the group never committed there."""

    agent: str
    group: str
    topic: str
    partition: int
    committed: int | None
    end: int
    records: int
    seconds: float


async def lags(settings: Settings, agents: Sequence[tuple[str, str]], now_ms: int) -> list[Lag]:
    """Of agents by (name, topic without prefix). Raises KafkaError, EnvironmentProblem."""
    from streams.topology.admin import committed_offsets

    found: list[Lag] = []
    for agent, topic in agents:
        group = f"{settings.kafka.group}.{agent}"
        name = prefixed(settings.kafka.topic_prefix, topic)
        partitions = [TopicPartition(name, number) for number in range(settings.topics.partitions)]
        committed = await committed_offsets(settings.kafka, group, partitions)
        async with reading(settings, {topic: settings.topics.partitions}) as (consumer, ends):
            begins = await consumer.beginning_offsets(list(ends))
            starts = {tp: max(committed.get(tp, begins[tp]), begins[tp]) for tp in ends}
            behind = {tp: start for tp, start in starts.items() if start < ends[tp]}
            ages = await _first_times(consumer, behind)
        for tp, end in sorted(ends.items()):
            at_ms = ages.get(tp)
            found.append(
                Lag(
                    agent,
                    group,
                    name,
                    tp.partition,
                    committed.get(tp),
                    end,
                    end - starts[tp],
                    0.0 if at_ms is None else max(0.0, (now_ms - at_ms) / 1000),
                )
            )
    return found


async def _first_times(consumer: Any, behind: dict[TopicPartition, int]) -> dict[TopicPartition, int]:
    """The time of the first record from each offset on."""
    found: dict[TopicPartition, int] = {}
    if not behind:
        return found
    consumer.assign(list(behind))
    for tp, offset in behind.items():
        consumer.seek(tp, offset)
    for _ in range(POLLS):
        for tp, records in (await consumer.getmany(timeout_ms=POLL_MS)).items():
            found.setdefault(tp, records[0].timestamp)
            consumer.pause(tp)
        if found.keys() == behind.keys():
            break
    return found
