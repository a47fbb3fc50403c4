"""A simulated cluster: partitioned logs, one consumer group, a coordinator of transactions."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from aiokafka import TopicPartition
from aiokafka.errors import (
    ConcurrentTransactions,
    CoordinatorNotAvailableError,
    InvalidProducerEpoch,
    InvalidTxnState,
    NotEnoughReplicasError,
    UnknownError,
)

from simulated.groups import Group
from simulated.log import Log, Stored
from simulated.loop import VirtualLoop

MARKER_S = (0.0005, 0.01)  # from the end of a transaction to a marker in a log
LATE_MARKER_S = (0.05, 0.5)


@dataclass(slots=True, eq=False)
class Transaction:
    """A transactional id: its producer, and its newest transaction."""

    producer: int
    epoch: int = 0
    state: str = "empty"  # | "ongoing" | "ending" | "complete"
    commit: bool = False
    partitions: dict[TopicPartition, None] = field(default_factory=dict)
    in_group: bool = False
    offsets: dict[TopicPartition, int] = field(default_factory=dict)
    missing: int = 0  # markers that are not written yet
    number: int = 0


class Witness(Protocol):
    """Who checks what must hold at every moment."""

    def appended(self, log: Log, records: list[Stored]) -> None: ...
    def committing(self, offsets: Mapping[TopicPartition, int]) -> None: ...
    def decided(self, transaction: Transaction) -> None: ...


class Broker:
    """Answers what clients ask, as Apache Kafka does. `refusing` is the chance that a batch is refused for good."""

    def __init__(
        self,
        loop: VirtualLoop,
        chance: random.Random,
        inputs: list[TopicPartition],
        witness: Witness,
        say: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._chance = chance
        self._witness = witness
        self._say = say
        self.group = Group(loop, inputs, witness.committing, say)
        self.logs: dict[TopicPartition, Log] = {}
        self.idempotent = True
        self.refusing = 0.0
        self.busy = 0.0  # chance of an error that passes
        self.late_markers = 0.0
        self.transactions_away = False
        self._transactions: dict[str, Transaction] = {}
        self._producers = 0
        # each is told which log has grown
        self.readers: list[Callable[[TopicPartition], None]] = []

    # -- logs

    def log(self, tp: TopicPartition) -> Log:
        found = self.logs.get(tp)
        if found is None:
            found = self.logs[tp] = Log(tp, self._appended)
        return found

    def _appended(self, log: Log, records: list[Stored]) -> None:
        self._witness.appended(log, records)
        for tell in self.readers:
            tell(log.tp)

    def produce(
        self,
        tp: TopicPartition,
        records: list[Stored],
        producer: int,
        epoch: int,
        sequence: int,
        transactional_id: str | None,
    ) -> int:
        """The offset of the first record. Raises KafkaError."""
        draw = self._chance.random()
        if draw < self.refusing:
            self._say(f"refuses a batch for {tp.topic}[{tp.partition}]")
            raise UnknownError
        if draw - self.refusing < self.busy:
            raise NotEnoughReplicasError
        log = self.log(tp)
        if producer < 0:
            return log.append(records)
        if transactional_id is not None:
            transaction = self._own(transactional_id, producer, epoch)
            if transaction.state != "ongoing" or tp not in transaction.partitions:
                raise InvalidTxnState
        return log.produce(records, producer, epoch, sequence, transactional_id is not None)

    # -- transactions

    def init_producer(self, transactional_id: str | None, timeout_s: float) -> tuple[int, int]:
        """An id and an epoch; with a transactional id, whoever had it before is fenced from here on."""
        if not self.idempotent:
            raise UnknownError
        if transactional_id is None:
            self._producers += 1
            return self._producers, 0
        self._check_here()
        transaction = self._transactions.get(transactional_id)
        if transaction is None:
            self._producers += 1
            transaction = self._transactions[transactional_id] = Transaction(self._producers)
            return transaction.producer, transaction.epoch
        if transaction.state == "ongoing":
            self._say(f"{transactional_id}: fenced with an open transaction")
            transaction.epoch += 1
            self._end(transaction, commit=False)
        if transaction.state == "ending":
            raise ConcurrentTransactions
        transaction.epoch += 1
        transaction.state = "empty"
        return transaction.producer, transaction.epoch

    def add_partitions(
        self, transactional_id: str, producer: int, epoch: int, tps: list[TopicPartition], timeout_s: float
    ) -> None:
        transaction = self._begun(transactional_id, producer, epoch, timeout_s)
        transaction.partitions |= dict.fromkeys(tps)

    def add_group(self, transactional_id: str, producer: int, epoch: int, timeout_s: float) -> None:
        self._begun(transactional_id, producer, epoch, timeout_s).in_group = True

    def commit_in_transaction(
        self, transactional_id: str, producer: int, epoch: int, offsets: Mapping[TopicPartition, int]
    ) -> None:
        self.group._check_here()
        transaction = self._own(transactional_id, producer, epoch)
        if transaction.state != "ongoing" or not transaction.in_group:
            raise InvalidTxnState
        transaction.offsets |= offsets

    def end_transaction(self, transactional_id: str, producer: int, epoch: int, commit: bool) -> None:
        self._check_here()
        transaction = self._own(transactional_id, producer, epoch)
        if transaction.state == "ongoing":
            self._end(transaction, commit)
        elif transaction.state == "ending" and transaction.commit == commit:
            raise ConcurrentTransactions
        elif transaction.state != "complete" or transaction.commit != commit:
            raise InvalidTxnState

    def _check_here(self) -> None:
        if self.transactions_away:
            raise CoordinatorNotAvailableError

    def _own(self, transactional_id: str, producer: int, epoch: int) -> Transaction:
        transaction = self._transactions[transactional_id]
        if producer != transaction.producer or epoch != transaction.epoch:
            raise InvalidProducerEpoch
        return transaction

    def _begun(self, transactional_id: str, producer: int, epoch: int, timeout_s: float) -> Transaction:
        self._check_here()
        transaction = self._own(transactional_id, producer, epoch)
        if transaction.state == "ending":
            raise ConcurrentTransactions
        if transaction.state != "ongoing":
            transaction.state = "ongoing"
            transaction.number += 1
            transaction.partitions, transaction.offsets, transaction.in_group = {}, {}, False
            self._loop.later(timeout_s, self._time_out, transaction, transaction.number)
        return transaction

    def _time_out(self, transaction: Transaction, number: int) -> None:
        if transaction.state == "ongoing" and transaction.number == number:
            self._say("aborts a transaction that nobody ended")
            transaction.epoch += 1
            self._end(transaction, commit=False)

    def _end(self, transaction: Transaction, commit: bool) -> None:
        """Decided here; readers learn it log by log."""
        transaction.state, transaction.commit = "ending", commit
        if commit:
            self._witness.decided(transaction)
        writes: list[Callable[[], None]] = [
            _bound(self.log(tp).mark, transaction.producer, transaction.epoch, commit)
            for tp in transaction.partitions
        ]
        if transaction.in_group and commit:
            writes.append(_bound(self.group.apply, dict(transaction.offsets)))
        transaction.missing = len(writes)
        for write in writes:
            bounds = LATE_MARKER_S if self._chance.random() < self.late_markers else MARKER_S
            self._loop.later(self._chance.uniform(*bounds), self._marked, transaction, write)
        if not writes:
            transaction.state = "complete"

    @staticmethod
    def _marked(transaction: Transaction, write: Callable[[], None]) -> None:
        write()
        transaction.missing -= 1
        if not transaction.missing:
            transaction.state = "complete"


def _bound(what: Callable[..., object], *args: object) -> Callable[[], None]:
    def call() -> None:
        what(*args)

    return call
