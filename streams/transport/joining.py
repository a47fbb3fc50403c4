"""Joining a consumer group: wait for a broker as long as it takes, and hear of partitions that come and go."""

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from streams.sections.kafka import Kafka
from streams.transport.client import check_not_refused, close
from streams.transport.partitions import Partitions

log = logging.getLogger(__name__)

FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 5.0


class Member(Protocol):
    """Who has the partitions."""

    async def revoke(self, revoked: Iterable[TopicPartition]) -> None: ...
    async def assign(self, assigned: Iterable[TopicPartition]) -> None: ...


async def join(
    make: Callable[[], AIOKafkaConsumer],
    topic: str,
    member: Member,
    owned: Partitions,
    kafka: Kafka,
    *,
    stopped: Callable[[], bool],
    sleep: Callable[[float], Awaitable[None]],
) -> AIOKafkaConsumer | None:
    """A started consumer in its group, which `owned` acts on; None when stopped before. Says once that it waits.

    Raises EnvironmentProblem where the broker refuses this worker.
    """
    wait_s, said = FIRST_WAIT_S, False
    while not stopped():
        consumer = make()
        owned.consumer = consumer  # at hand before start: partitions may come within it
        try:
            consumer.subscribe([topic], listener=_Listener(member))
            await consumer.start()
        except (KafkaError, OSError) as error:
            owned.consumer = None
            await close(consumer)
            check_not_refused(error, kafka)
            if not said:
                log.warning("no broker at %s (%s); waiting for it", kafka.bootstrap, error)
                said = True
            await sleep(wait_s)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)
            continue
        if said and owned.consumer is not None:
            log.info("broker found at %s", kafka.bootstrap)
        break
    return owned.consumer


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """aiokafka's callbacks, on the app's own loop."""

    def __init__(self, member: Member) -> None:
        self._member = member

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        await self._member.revoke(revoked)

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        await self._member.assign(assigned)
