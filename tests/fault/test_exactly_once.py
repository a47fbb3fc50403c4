"""Exactly-once delivery: readers that ask for committed records see every output once, whatever dies or wakes up."""

import asyncio
import json
import signal
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaClient, AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.client import CoordinationType
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.transaction import EndTxnRequest

from bad_records import NOW_MS, click
from processes import WorkerProcess
from running import committed, produce, read_all, running, settings_for, until
from streams.clock import SystemClock
from streams.effects import Effects, Emit
from streams.errors import EnvironmentProblem, Retry
from streams.settings import Settings
from streams.topology.admin import apply
from streams.transport.batch import PartitionBatch
from streams.transport.ledger import Entry, Ledger
from streams.transport.transactions import TransactionalCommit
from taste_oracle import replayed

USERS = 80

RECORD: Any = SimpleNamespace(headers=())  # of a record, all that a commit looks at


def clicks(n: int, start: int) -> list[tuple[bytes | None, bytes | None]]:
    found: list[tuple[bytes | None, bytes | None]] = []
    for i in range(start, start + n):
        user = f"u{i * 7 % USERS}"
        found.append((user.encode(), click(i, user=user, item=f"i{i * i % 90}", at=NOW_MS + i * 40)))
    return found


async def ends_committed(settings: Settings, sent: int, within_s: float = 60.0) -> list[Any]:
    """The log, once all of it is committed."""
    bootstrap, prefix = settings.kafka.bootstrap, settings.kafka.topic_prefix
    log = await read_all(bootstrap, f"{prefix}clicks", sent)
    ends = {p: max((r.offset + 1 for r in log if r.partition == p), default=None) for p in range(4)}
    deadline = asyncio.get_running_loop().time() + within_s
    while (found := await committed(bootstrap, f"{prefix}group.clicks", f"{prefix}clicks", 4)) != ends:
        assert asyncio.get_running_loop().time() < deadline, f"committed {found} of {ends}"
        await asyncio.sleep(0.2)
    return log


async def check(settings: Settings, log: list[Any]) -> None:
    """State as a plain replay gives it, lists once each, every click's transition once."""
    bootstrap, prefix = settings.kafka.bootstrap, settings.kafka.topic_prefix

    async def seen(topic: str) -> list[Any]:
        return await read_all(bootstrap, f"{prefix}{topic}", isolation_level="read_committed")

    rows = {(r.partition, r.key.decode()): r.value for r in await seen("taste-changelog")}
    assert rows == replayed(settings, log)
    lists = [json.loads(record.value) for record in await seen("recommendations")]
    often = [name for name, count in Counter(made["id"] for made in lists).items() if count > 1]
    assert not often, f"{len(often)} lists appear more than once"
    last = {made["user"]: made["because"]["offset"] for made in lists}
    assert last == {json.loads(r.value)["user"]: r.offset for r in log}
    assert len(await seen("transitions")) == len(log)  # all of them are positive clicks


def test_every_output_once_over_a_run_and_a_restart(kafka_broker: Any, topic_prefix: str) -> None:
    bootstrap = kafka_broker.bootstrap
    settings = settings_for(
        bootstrap, topic_prefix, ("clicks",), worker={"delivery": "exactly_once", "agents": ("clicks",)}
    )

    async def main() -> None:
        async with running(settings):
            await produce(bootstrap, f"{topic_prefix}clicks", clicks(900, 0))
            await ends_committed(settings, 900)
        async with running(settings):
            await produce(bootstrap, f"{topic_prefix}clicks", clicks(600, 900))
            await check(settings, await ends_committed(settings, 1500))

    asyncio.run(main())


def test_every_output_once_when_one_is_killed_and_one_sleeps(
    kafka_broker: Any, topic_prefix: str, tmp_path: Path
) -> None:
    """The first stands still for longer than its session, so the second takes over, and wakes up as a zombie; then
    the second is killed in the middle of its work."""
    bootstrap = kafka_broker.bootstrap
    settings = settings_for(
        bootstrap, topic_prefix, ("clicks",), worker={"delivery": "exactly_once", "agents": ("clicks",)}
    )
    asyncio.run(apply(settings))
    owned = 'headrace_partitions_owned{agent="clicks"}'
    sent = 0

    def more() -> None:
        nonlocal sent
        asyncio.run(produce(bootstrap, f"{topic_prefix}clicks", clicks(300, sent)))
        sent += 300

    with (
        WorkerProcess(settings, tmp_path / "first.log") as first,
        WorkerProcess(settings, tmp_path / "second.log") as second,
    ):
        first.wait_until(lambda: first.metric(owned) == 2 and second.metric(owned) == 2, 90, "they share")
        more()
        more()
        first.signal(signal.SIGSTOP)
        more()
        within_s = settings.kafka.session_timeout_s + 45
        second.wait_until(lambda: second.metric(owned) == 4 and second.ready, within_s, "takeover")
        more()
        first.signal(signal.SIGCONT)
        first.wait_until(lambda: first.metric(owned) == 2 and first.ready, within_s, "it is back")
        more()
        second.signal(signal.SIGKILL)
        assert second.ended(5) == -signal.SIGKILL
        more()
        first.wait_until(lambda: first.metric(owned) == 4 and first.ready, within_s, "takeover")
        more()
        log = asyncio.run(ends_committed(settings, sent))
        asyncio.run(check(settings, log))
        first.signal(signal.SIGTERM)
        assert first.ended(settings.worker.grace_s) == 0, first.said
        assert "Traceback" not in first.said, first.said


class _Observer:
    def group_decided(self, batches: int, records: int, decide_s: float) -> None: ...
    def group_done(self, *_: object) -> None: ...
    def group_failed(self, batches: int) -> None: ...
    def foreign_rows(self, records: int) -> None: ...


class Owner:
    """A partition's transactions, without a consumer group to say whose it is: a zombie has none either."""

    def __init__(self, settings: Settings, name: bytes) -> None:
        self._ledger = Ledger()
        self._name = name
        self.failures: list[BaseException] = []
        self.finished = 0
        self.commit: TransactionalCommit[int] = TransactionalCommit(
            decide=self._decide,
            finish=self._finish,
            failed=lambda error, _: self.failures.append(error),
            in_flight=lambda _: self._ledger.unfinished,
            kafka=settings.kafka,
            group=f"{settings.kafka.group}.clicks",
            topic="clicks",
            clock=SystemClock(),
            observer=_Observer(),
            group_records=100,
            interval_s=0.0,
        )

    def _finish(self, batch: PartitionBatch) -> None:
        self._ledger.finish(batch.entry)
        self.finished += 1

    def _decide(self, group: Any) -> Effects:
        values = [self._name + str(s.work).encode() for s in group]
        return Effects([Emit("labels", 0, values, values)])

    def batch(self, offset: int) -> Entry:
        entry = self._ledger.append(offset, offset + 1, 1)
        records: list[Any] = [RECORD]
        self.commit.submit(PartitionBatch("clicks", 0, records, entry, 0.0), offset)
        return entry


def test_the_next_owner_fences_the_one_before(kafka_broker: Any, topic_prefix: str) -> None:
    settings = settings_for(kafka_broker.bootstrap, topic_prefix, ("clicks",))

    async def main() -> None:
        await apply(settings)
        old, new = Owner(settings, b"old"), Owner(settings, b"new")
        forming = [asyncio.create_task(owner.commit.run()) for owner in (old, new)]
        try:
            await old.commit.open(0)
            old.batch(0)
            await until(lambda: old.finished == 1, 20, "the first transaction")
            await new.commit.open(0)
            old.batch(1)
            await until(lambda: bool(old.failures), 20, "the zombie is told")
            assert isinstance(old.failures[0], Retry)
            new.batch(1)
            await until(lambda: new.finished == 1, 20, "the owner goes on")
        finally:
            for task in forming:
                task.cancel()
            await asyncio.gather(old.commit.cancel(), new.commit.cancel())
        bootstrap = settings.kafka.bootstrap
        seen = await read_all(bootstrap, f"{topic_prefix}labels", isolation_level="read_committed")
        assert sorted(record.value for record in seen) == [b"new1", b"old0"]
        group = f"{settings.kafka.group}.clicks"
        assert (await committed(bootstrap, group, f"{topic_prefix}clicks", 1))[0] == 2

    asyncio.run(main())


def test_a_batch_that_is_ready_early_waits_for_those_before_it(kafka_broker: Any, topic_prefix: str) -> None:
    """Media finish in any order; a transaction moves the offset, so it must not pass over unfinished work."""
    settings = settings_for(kafka_broker.bootstrap, topic_prefix, ("clicks",))

    async def main() -> None:
        await apply(settings)
        owner = Owner(settings, b"n")
        forming = asyncio.create_task(owner.commit.run())
        try:
            await owner.commit.open(0)
            first = owner._ledger.append(0, 1, 1)  # read, its labels are not there yet
            owner.batch(1)
            await asyncio.sleep(0.5)
            assert owner.finished == 0 and not owner.failures
            owner.commit.submit(PartitionBatch("clicks", 0, [RECORD], first, 0.0), 0)
            await until(lambda: owner.finished == 2, 20, "both")
        finally:
            forming.cancel()
            await owner.commit.cancel()

    asyncio.run(main())


def test_a_transaction_whose_end_comes_late_is_not_half_undone(
    kafka_broker: Any, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker goes away while a transaction ends. Its owner starts over, and asks what is committed; only then
    does the end arrive. Outputs and offsets must stand or fall together."""
    bootstrap = kafka_broker.bootstrap
    settings = settings_for(
        bootstrap, topic_prefix, ("clicks",), worker={"delivery": "exactly_once", "agents": ("clicks",)}
    )
    unended: list[EndTxnRequest] = []
    armed = False
    commit_transaction, offset_of = AIOKafkaProducer.commit_transaction, AIOKafkaConsumer.committed

    async def unanswered(producer: Any) -> None:
        nonlocal armed
        if not armed:
            return await commit_transaction(producer)
        armed = False
        txn = producer._txn_manager
        unended.append(EndTxnRequest(txn.transactional_id, txn.producer_id, txn.producer_epoch, True))
        raise KafkaConnectionError("no answer to the end of a transaction")

    async def then_ended(consumer: Any, tp: TopicPartition) -> int | None:
        found: int | None = await offset_of(consumer, tp)
        while unended:
            await end_transaction(bootstrap, unended.pop())
        return found

    async def main() -> None:
        nonlocal armed
        async with running(settings):
            monkeypatch.setattr(AIOKafkaProducer, "commit_transaction", unanswered)
            monkeypatch.setattr(AIOKafkaConsumer, "committed", then_ended)
            armed = True
            one = [(b"u1", value) for _, value in clicks(40, 0)]  # in one transaction
            await produce(bootstrap, f"{topic_prefix}clicks", [(b"u1", b"no click"), *one])
            await until(lambda: not armed and not unended, 20, "the late end")
            await ends_committed(settings, 41)
        dead = await read_all(bootstrap, f"{topic_prefix}clicks.dlt", isolation_level="read_committed")
        assert len(dead) == 1

    asyncio.run(main())


async def end_transaction(bootstrap: str, request: EndTxnRequest) -> None:
    """What was sent by a worker and stood in a queue of the network."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    await client.bootstrap()
    try:
        node = await client.coordinator_lookup(CoordinationType.TRANSACTION, request._transactional_id)
        await client.ready(node)
        await client.send(node, request)
    finally:
        await client.close()


def test_a_broker_without_transactions_is_refused_by_name(embedded_broker: Any, topic_prefix: str) -> None:
    settings = settings_for(
        embedded_broker.bootstrap,
        topic_prefix,
        ("clicks",),
        worker={"delivery": "exactly_once", "agents": ("clicks",)},
        kafka={"request_timeout_s": 5.0},
    )

    async def main() -> None:
        with pytest.raises(EnvironmentProblem, match="no working transactions"):
            async with running(settings):
                pass

    asyncio.run(main())
