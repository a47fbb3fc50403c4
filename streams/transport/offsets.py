"""Committing offsets and measuring how far behind a group is. Knows the ledgers' answer, not how it came about."""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from aiokafka import TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
    for_code,
)
from aiokafka.protocol.group import HeartbeatRequest

from streams.transport.ledger import Ledger
from streams.transport.standing import Standing

log = logging.getLogger(__name__)

Ledgers = Mapping[TopicPartition, Ledger]


class OffsetObserver(Protocol):
    """What the metrics want to know of offsets."""

    def commit_failed(self) -> None: ...
    def lag(self, partition: int, records: int, seconds: float) -> None: ...


class Offsets:
    """What one consumer group has committed and finished, by partition."""

    def __init__(self, group: str, request_timeout_s: float, observer: OffsetObserver) -> None:
        self._group = group
        self._request_timeout_s = request_timeout_s
        self._observer = observer
        self._committed: dict[TopicPartition, int] = {}
        self._last_ms: dict[TopicPartition, int] = {}  # time of the last finished record
        self._lags: dict[TopicPartition, tuple[int, float]] = {}  # records, seconds, as last measured
        self._attempt: asyncio.Future[None] | None = None

    def finished(self, tp: TopicPartition, timestamp_ms: int) -> None:
        """A batch's last record is done."""
        self._last_ms[tp] = timestamp_ms

    def forget(self, tp: TopicPartition) -> None:
        """The partition left."""
        self._committed.pop(tp, None)
        self._last_ms.pop(tp, None)
        self._lags.pop(tp, None)

    async def commit(self, consumer: Any, ledgers: Ledgers, within_s: float = math.inf) -> None:
        """Commit the end of each contiguous finished prefix that moved. A refusal is logged and counted: what it
        would have covered is repeated by whoever owns the partition next, and fences make that harmless."""
        due = {
            tp: ledger.committable
            for tp, ledger in ledgers.items()
            if ledger.committable is not None and ledger.committable != self._committed.get(tp)
        }
        if not due:
            return
        if self._attempt is not None:
            # aiokafka tries again for as long as we let it, and with the generation of that moment: an attempt from
            # before a rebalance would set back what was committed since.
            self._attempt.cancel()
        attempt = self._attempt = asyncio.ensure_future(consumer.commit(due))
        try:
            await asyncio.wait([attempt], timeout=min(within_s, self._request_timeout_s))
        finally:
            overtaken = attempt.cancelled()
            attempt.cancel()
        if overtaken:
            return
        try:
            if not attempt.done():
                raise asyncio.TimeoutError
            attempt.result()
        except (CommitFailedError, IllegalStateError) as error:
            log.info("%s: offsets not committed, the group moved on: %s", self._group, error)
            self._observer.commit_failed()
        except (KafkaError, asyncio.TimeoutError) as error:
            log.warning("%s: offsets not committed, trying again: %r", self._group, error)
            self._observer.commit_failed()
        else:
            self._committed |= {tp: offset for tp, offset in due.items() if tp in ledgers}

    def measure_lag(self, consumer: Any, ledgers: Ledgers, now_ms: int) -> None:
        """Records between what is finished and the high watermark; the age of the last finished one while behind."""
        for tp, ledger in ledgers.items():
            high = consumer.highwater(tp)
            if high is None:
                continue
            done = ledger.committable
            if done is None:
                oldest = ledger.oldest
                done = self._committed.get(tp, high if oldest is None else oldest)
            behind = max(0, high - done)
            age_s = max(0.0, (now_ms - self._last_ms.get(tp, now_ms)) / 1000) if behind else 0.0
            self._lags[tp] = (behind, age_s)
            self._observer.lag(tp.partition, behind, age_s)

    def standing(self, tp: TopicPartition, ledger: Ledger, opened: bool) -> Standing:
        """Where an owned partition stands, without asking anybody."""
        records, seconds = self._lags.get(tp, (None, None))
        at_ms = self._last_ms.get(tp)
        return Standing(tp.partition, opened, ledger.committable, at_ms, records, seconds)


async def committed_or_first(consumer: Any, tp: TopicPartition) -> int:
    """Where a group starts to read a partition. Raises KafkaError while the broker does not answer."""
    committed = await consumer.committed(tp)
    if committed is not None:
        return int(committed)
    return int((await consumer.beginning_offsets([tp]))[tp])


async def is_member(consumer: Any) -> bool:
    """Whether the group still counts this consumer in, in the generation that gave it its partitions. Raises
    KafkaError while the broker does not answer.

    By a heartbeat, which writes nothing: a commit of what is committed would ask the same, and take back the offsets
    of a transaction whose end is on its way (a later commit wins, although the transaction's outputs stand). aiokafka
    has no public call for it (reached into: the version is pinned).
    """
    coordinator = consumer._coordinator
    request = HeartbeatRequest(coordinator.group_id, coordinator.generation, coordinator.member_id)
    error = for_code((await coordinator._send_req(request)).error_code)
    if error in (IllegalGenerationError, UnknownMemberIdError):
        return False
    if error.errno and error is not RebalanceInProgressError:
        raise error()
    return True


def only_as_member(consumer: Any) -> None:
    """Let this started consumer commit in a generation that its group gave it, and never without one.

    Once the coordinator has forgotten the member, aiokafka commits as a client of no group would; where the group is
    empty by then (the one who took over has left, too) a broker accepts that, and what others committed since is set
    back. aiokafka has no public way to say so (reached into: the version is pinned).
    """
    coordinator = consumer._coordinator
    commit = coordinator._do_commit_offsets

    async def as_member(assignment: Any, offsets: Any) -> None:
        if coordinator.generation < 0:
            raise UnknownMemberIdError("this consumer is not in its group")
        await commit(assignment, offsets)

    coordinator._do_commit_offsets = as_member


def on_heartbeat(consumer: Any, now_s: Callable[[], float], confirmed: Callable[[float], None]) -> None:
    """Call `confirmed` with the time of asking whenever a heartbeat of this started consumer finds it in its group, in
    the generation that gave it its partitions. aiokafka tells nobody (reached into: the version is pinned)."""
    coordinator = consumer._coordinator
    beat = coordinator._do_heartbeat

    async def heard() -> bool:
        asked_s = now_s()
        counted_in: bool = await beat()
        if counted_in:
            confirmed(asked_s)
        return counted_in

    coordinator._do_heartbeat = heard
