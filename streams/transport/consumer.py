"""How an agent reads: its profile, and the consumer that goes with it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from streams.errors import EnvironmentProblem
from streams.sections.kafka import Kafka, Reader
from streams.transport.batch import Record
from streams.transport.client import client_options
from streams.transport.directory import addressed


@dataclass(frozen=True, slots=True)
class Profile:
    """How one agent reads. Clicks want little delay, media small batches, items one group a second."""

    max_records: int
    fetch_wait_ms: int  # how long a broker with nothing new holds its answer back
    batches_in_flight: int
    fetch_min_bytes: int = 1
    pace_ms: float = 0.0  # a broker is asked at most once in this time (`streams.transport.pace`)
    left_ms: Callable[[Record, int], int] | None = (
        None  # how long from now_ms a record is to wait; None: never
    )


def consumer_for(
    kafka: Kafka, reading: Reader, profile: Profile, group: str, address: str | None
) -> AIOKafkaConsumer:
    """A consumer that has not been started. Its group is told the address where this worker answers queries."""
    return AIOKafkaConsumer(
        **client_options(kafka),
        group_id=group,
        group_instance_id=f"{kafka.instance_id}.{group}" if kafka.instance_id else None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=int(kafka.session_timeout_s * 1000),
        heartbeat_interval_ms=int(kafka.heartbeat_interval_s * 1000),
        rebalance_timeout_ms=int(kafka.rebalance_timeout_s * 1000),
        fetch_max_wait_ms=profile.fetch_wait_ms,
        fetch_min_bytes=profile.fetch_min_bytes,
        max_partition_fetch_bytes=reading.fetch_bytes,
        max_poll_records=profile.max_records,
        isolation_level="read_committed",  # upstream may write in transactions
        partition_assignment_strategy=[addressed(address) if address else RangePartitionAssignor],
    )


def check_partitions(assigned: Iterable[TopicPartition], declared: int) -> None:
    """Raises EnvironmentProblem when a topic has more partitions than it was declared with."""
    for tp in assigned:
        if tp.partition >= declared:
            raise EnvironmentProblem(
                f"{tp.topic} has grown beyond the {declared} partitions of topics.partitions: keys move away from "
                "their state, and the topics beside it have no such partition. Start with a new kafka.topic_prefix "
                "and replay"
            )
