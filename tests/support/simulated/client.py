"""What stands where aiokafka's connection to a cluster stands, so that its real producer, with its real sender, its
real queue and its real transaction manager, talks to the simulated broker."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition
from aiokafka.client import CoordinationType
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
    TxnOffsetCommitRequest,
)
from aiokafka.record.memory_records import MemoryRecords

from simulated.broker import Broker
from simulated.log import Stored
from simulated.network import Network

NODES = 3
COORDINATOR = 0
TRANSACTION_TIMEOUT_S = 5.0


class _Cluster:
    """Everything has a leader."""

    def __init__(self, partitions: int) -> None:
        self._partitions = set(range(partitions))

    def leader_for_partition(self, tp: TopicPartition) -> int:
        return (len(tp.topic) + tp.partition) % NODES

    def partitions_for_topic(self, topic: str) -> set[int]:
        return self._partitions

    available_partitions_for_topic = partitions_for_topic


class SimulatedClient:
    """An `AIOKafkaClient` for `AIOKafkaProducer`."""

    def __init__(self, broker: Broker, network: Network, partitions: int, **options: Any) -> None:
        self._broker = broker
        self._network = network
        self._timeout_s = options["request_timeout_ms"] / 1000
        self._client_id = options["client_id"]
        self._open: set[asyncio.Future[Any]] = set()
        self.cluster = _Cluster(partitions)
        self._answers: dict[type, Callable[[Any], Any]] = {
            ProduceRequest: self._produce,
            InitProducerIdRequest: self._init,
            AddPartitionsToTxnRequest: self._add_partitions,
            AddOffsetsToTxnRequest: self._add_group,
            TxnOffsetCommitRequest: self._commit_offsets,
            EndTxnRequest: self._end,
        }

    async def bootstrap(self) -> None:
        await self._network.call(self._timeout_s, _nothing)

    async def close(self) -> None:
        for future in self._open:
            if not future.done():
                future.set_exception(KafkaConnectionError("the connection was closed"))

    async def ready(self, node_id: int, group: Any = None) -> bool:
        return True

    async def coordinator_lookup(self, kind: CoordinationType, key: str) -> int:
        return COORDINATOR

    def get_random_node(self) -> int:
        return COORDINATOR

    def force_metadata_update(self) -> "asyncio.Future[Any]":
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.01, lambda: future.done() or future.set_result(True))
        return future

    async def _wait_on_metadata(self, topic: str) -> set[int]:
        return self.cluster.partitions_for_topic(topic)

    async def _maybe_wait_metadata(self) -> None: ...

    async def send(self, node_id: int, request: Any, group: Any = None) -> Any:
        """The response. Raises KafkaError."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._open.add(future)
        try:
            return await self._network.ask(future, self._timeout_s, self._answers[type(request)], request)
        finally:
            self._open.discard(future)

    # -- at the broker

    def _produce(self, request: Any) -> Any:
        answers = []
        for topic, partitions in request._topics:
            for partition, buffer in partitions:
                code, offset = 0, -1
                try:
                    offset = self._append(TopicPartition(topic, partition), buffer, request._transactional_id)
                except KafkaError as error:
                    code = error.errno
                answers.append((topic, [(partition, code, offset, -1, 0)]))
        return SimpleNamespace(API_VERSION=7, topics=answers)

    def _append(self, tp: TopicPartition, buffer: Any, transactional_id: str | None) -> int:
        batch = MemoryRecords(bytes(buffer)).next_batch()
        assert batch is not None
        records = [Stored(0, r.timestamp, r.key, r.value, tuple(r.headers)) for r in batch]
        return self._broker.produce(
            tp, records, batch.producer_id, batch.producer_epoch, batch.base_sequence, transactional_id
        )

    def _init(self, request: Any) -> Any:
        code, producer, epoch = 0, -1, -1
        try:
            producer, epoch = self._broker.init_producer(request._transactional_id, TRANSACTION_TIMEOUT_S)
        except KafkaError as error:
            code = error.errno
        return SimpleNamespace(error_code=code, producer_id=producer, producer_epoch=epoch)

    def _add_partitions(self, request: Any) -> Any:
        asked = [TopicPartition(topic, p) for topic, partitions in request._topics for p in partitions]
        tps = sorted(asked)  # a set on its way here: its order is no choice of the seed
        code = _code(
            self._broker.add_partitions,
            request._transactional_id,
            request._producer_id,
            request._producer_epoch,
            tps,
            TRANSACTION_TIMEOUT_S,
        )
        return SimpleNamespace(errors=[(tp.topic, [(tp.partition, code)]) for tp in tps])

    def _add_group(self, request: Any) -> Any:
        who = (request._transactional_id, request._producer_id, request._producer_epoch)
        return SimpleNamespace(error_code=_code(self._broker.add_group, *who, TRANSACTION_TIMEOUT_S))

    def _commit_offsets(self, request: Any) -> Any:
        who = (request._transactional_id, request._producer_id, request._producer_epoch)
        offsets = {TopicPartition(topic, p): at for topic, parts in request._topics for p, at, _ in parts}
        code = _code(self._broker.commit_in_transaction, *who, offsets)
        return SimpleNamespace(errors=[(tp.topic, [(tp.partition, code)]) for tp in offsets])

    def _end(self, request: Any) -> Any:
        who = (request._transactional_id, request._producer_id, request._producer_epoch)
        commit = bool(request._transaction_result)
        return SimpleNamespace(error_code=_code(self._broker.end_transaction, *who, commit))


def _code(what: Callable[..., None], *args: Any) -> int:
    try:
        what(*args)
    except KafkaError as error:
        return int(error.errno)
    return 0


def _nothing() -> None: ...
