"""A line: the reader, the commit and the producer that serve one agent, wired together."""

import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from streams.agents.base import Agent
from streams.clock import Clock
from streams.effects import Effects
from streams.settings import Settings
from streams.traces import Tracing
from streams.transport.batch import PartitionBatch
from streams.transport.commit import GroupCommit
from streams.transport.durable import Commit, Submission
from streams.transport.lease import Lease
from streams.transport.producer import BatchProducer
from streams.transport.reader import BatchReader
from streams.transport.transactions import TransactionalCommit


@dataclass(slots=True)
class Line:
    """All that serves one agent."""

    agent: Agent[Any]
    reader: BatchReader
    commit: Commit[Any]
    producer: BatchProducer | None  # of at-least-once delivery
    grouping: "asyncio.Task[None] | None" = None
    joined: bool = False

    @property
    def ready(self) -> bool:
        return self.joined and self.reader.ready and self.agent.ready()


def line_for(
    agent: Agent[Any],
    *,
    app: Any,
    channel: Any,
    settings: Settings,
    clock: Clock,
    fatal: Callable[[BaseException], None],
    tracing: Tracing,
) -> Line:
    """Batches go into `channel`, as events that `app` makes; `fatal` hears what must stop the worker."""
    kafka = settings.kafka
    lease = Lease(clock, kafka.session_timeout_s - kafka.heartbeat_interval_s)
    reader = BatchReader(
        app,
        topic=agent.topic,
        group=f"{kafka.group}.{agent.name}",
        channel=channel,
        agent=agent,
        kafka=kafka,
        reader=settings.reader,
        profile=agent.profile(),
        drain_s=settings.worker.drain_s,
        clock=clock,
        observer=agent.metrics,
        fatal=fatal,
        lease=lease,
        partitions=settings.topics.partitions,
    )
    exactly_once = settings.worker.delivery == "exactly_once"
    producer = None if exactly_once else BatchProducer(kafka, lease)
    agent.commit = commit = _commit(agent, reader, producer, settings, clock, tracing)
    reader.attach(commit)
    return Line(agent, reader, commit, producer)


def _commit(
    agent: Agent[Any],
    reader: BatchReader,
    producer: BatchProducer | None,
    settings: Settings,
    clock: Clock,
    tracing: Tracing,
) -> Commit[Any]:
    """How the agent's effects become durable."""
    reading = settings.reader
    # one group a period takes all there is, or the period would be a bound on throughput
    group_records = sys.maxsize if agent.period_s else reading.group_records

    def decide(group: Sequence[Submission[Any]]) -> Effects:
        tracing.deciding([one.batch for one in group])
        return agent.decide(group)

    def finish(batch: PartitionBatch) -> None:
        reader.finish(batch)
        tracing.finished(batch)

    if producer is None:
        return TransactionalCommit(
            decide=decide,
            finish=finish,
            failed=reader.fail,
            in_flight=reader.in_flight,
            kafka=settings.kafka,
            group=reader.group,
            topic=agent.topic,
            clock=clock,
            observer=agent.metrics,
            group_records=group_records,
            interval_s=max(agent.period_s, reading.transaction_interval_ms / 1000),
        )
    return GroupCommit(
        decide=decide,
        producer=producer,
        finish=finish,
        failed=reader.fail,
        in_flight=reader.in_flight,
        clock=clock,
        observer=agent.metrics,
        groups_in_flight=reading.groups_in_flight,
        group_records=group_records,
        interval_s=max(agent.period_s, reading.group_interval_ms / 1000),
        changelog_interval_s=reading.changelog_interval_ms / 1000,
    )
