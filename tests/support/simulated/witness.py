"""The independent judge of a simulated run. It sees what lands in the logs and what is committed, at the moment it
happens, and knows nothing of workers, ledgers or groups."""

import json
from collections import Counter
from collections.abc import Mapping

from aiokafka import TopicPartition

from simulated.broker import Transaction
from simulated.log import Log, Stored
from simulated.workload import Input, Workload
from streams.topology.topics import CLICKS, RECOMMENDATIONS, TASTE_CHANGELOG, TRANSITIONS, dead_letter

_FENCE = slice(5, 13)  # of an encoded state: version u1, settings u4, fence i8
_SOURCE, _SOURCE_OFFSET = slice(2, 4), slice(4, 12)  # of an encoded transition


class Violation(AssertionError):
    """A promise was broken."""


class Witness:
    """`found` collects what was broken, in the order it was seen."""

    def __init__(self, load: Workload, exactly_once: bool) -> None:
        self._load = load
        self._exactly_once = exactly_once
        self.logs: dict[TopicPartition, Log] = {}
        self.found: list[str] = []
        self._fences: dict[tuple[int, str], int] = {}
        self.lists: Counter[tuple[int, int]] = Counter()
        self.transitions: Counter[tuple[int, int]] = Counter()
        self.letters: Counter[tuple[int, int]] = Counter()
        self._checked = [0] * len(load.partitions)
        self._committed = [0] * len(load.partitions)
        self._applied: dict[tuple[int, str], list[Input]] = {}
        for part in load.partitions:
            for record in part:
                if record.outcome == "applied":
                    self._applied.setdefault((record.partition, record.user), []).append(record)

    def broken(self, what: str) -> None:
        self.found.append(what)

    # -- as it happens

    def appended(self, log: Log, records: list[Stored]) -> None:
        self.logs[log.tp] = log
        if log.tp.topic != CLICKS:
            for record in records:
                if record.visible:
                    self._durable(log.tp, record)

    def decided(self, transaction: Transaction) -> None:
        """A transaction was committed: all of it is durable, whenever readers come to see it."""
        for tp in sorted(transaction.partitions, key=lambda tp: tp.topic == TASTE_CHANGELOG):
            for record in self.logs[tp].records if tp in self.logs else ():
                if record.producer == transaction.producer and record.state == "open":
                    self._durable(tp, record)
        for tp, offset in transaction.offsets.items():
            if offset < self._committed[tp.partition]:
                self.broken(
                    f"{tp.partition}: a transaction takes {self._committed[tp.partition]} back to {offset}"
                )
        self.committing(transaction.offsets)

    def committing(self, offsets: Mapping[TopicPartition, int]) -> None:
        """A committed offset implies that the effects of everything before it are durable."""
        for tp, offset in offsets.items():
            inputs, partition = self._load.partitions[tp.partition], tp.partition
            if offset > inputs[-1].offset + 1:
                self.broken(f"{partition}: {offset} was committed, the log ends at {inputs[-1].offset + 1}")
            at = self._checked[partition]
            while at < len(inputs) and inputs[at].offset < offset:
                self._check_effects(inputs[at], offset)
                at += 1
            self._checked[partition] = at
            self._committed[partition] = max(offset, self._committed[partition])

    def _check_effects(self, record: Input, committed: int) -> None:
        if not self._done(record):
            place = record.partition, record.offset
            effect = "its dead letter" if record.outcome == "rejected" else f"the state of {record.user}"
            self.broken(f"{place}: {committed} was committed before {effect} was durable")

    def _done(self, record: Input) -> bool:
        if record.outcome == "rejected":
            return bool(self.letters[record.partition, record.offset])
        fence = self._fences.get((record.partition, record.user), -1)
        return record.outcome == "duplicate" or fence >= record.offset

    def all_done(self) -> bool:
        """Whether every input has had its effect."""
        return all(self._done(record) for part in self._load.partitions for record in part)

    def _durable(self, tp: TopicPartition, record: Stored) -> None:
        value = record.value or b""
        if tp.topic == RECOMMENDATIONS:
            because = json.loads(value)["because"]
            self.lists[because["partition"], because["offset"]] += 1
        elif tp.topic == TRANSITIONS:
            source = int.from_bytes(value[_SOURCE], "little")
            self.transitions[source, int.from_bytes(value[_SOURCE_OFFSET], "little")] += 1
        elif tp.topic == dead_letter(CLICKS):
            headers = dict(record.headers)
            self.letters[tp.partition, int(headers["__connect.errors.offset"])] += 1
        elif tp.topic == TASTE_CHANGELOG:
            self._check_row(tp.partition, (record.key or b"").decode(), fence_of(value))

    def _check_row(self, partition: int, user: str, fence: int) -> None:
        """A durable row implies that the outputs that it stands for are durable."""
        applied = [record for record in self._applied[partition, user] if record.offset <= fence]
        if not applied or applied[-1].offset != fence:
            self.broken(f"{partition}: a row of {user} with fence {fence}, which is no click of theirs")
            return
        if not self.lists[partition, fence]:
            self.broken(f"{partition}: the row of {user} at {fence} was durable before its list")
        for record in applied:
            if record.transition and not self.transitions[partition, record.offset]:
                self.broken(
                    f"{partition}: the row of {user} at {fence} was durable before transition {record.offset}"
                )
        self._fences[partition, user] = max(fence, self._fences.get((partition, user), -1))

    # -- at the end

    def conclude(self, recovered: Mapping[tuple[int, str], bytes], lists_in_order: bool) -> None:
        """What the logs hold must be what a clean pass makes, and so must what a worker would read back from them.
        `lists_in_order` False where a request may arrive seconds late: without transactions nobody can fence such a
        list (see `streams.transport.lease`)."""
        states, last = self._read_back()
        for place, expected in self._load.states.items():
            if states.get(place) != expected:
                self.broken(f"{place}: the state is not that of a clean replay")
            if recovered.get(place) != expected:
                self.broken(f"{place}: what is read back is not the state of a clean replay")
            if lists_in_order and last.get(place) != self._applied[place][-1].offset:
                self.broken(
                    f"{place}: the last list is of {last.get(place)}, not {self._applied[place][-1].offset}"
                )
        inputs = [record for part in self._load.partitions for record in part]
        self._count("transition", self.transitions, [r for r in inputs if r.transition])
        self._count("dead letter", self.letters, [r for r in inputs if r.outcome == "rejected"])
        if self._exactly_once:
            for list_place, times in self.lists.items():
                if times > 1:
                    self.broken(f"{list_place}: {times} lists")

    def _read_back(self) -> tuple[dict[tuple[int, str], bytes], dict[tuple[int, str], int]]:
        """Of each (partition, user): the state with the highest fence, and what caused the last list."""
        states: dict[tuple[int, str], bytes] = {}
        last: dict[tuple[int, str], int] = {}
        for tp, log in self.logs.items():
            for record in log.records:
                if not record.visible or record.key is None:
                    continue
                place, value = (tp.partition, record.key.decode()), record.value or b""
                if tp.topic == TASTE_CHANGELOG:
                    if place not in states or fence_of(value) >= fence_of(states[place]):
                        states[place] = value
                elif tp.topic == RECOMMENDATIONS:
                    last[place] = json.loads(value)["because"]["offset"]
        return states, last

    def _count(self, what: str, found: Counter[tuple[int, int]], expected: list[Input]) -> None:
        places = {(record.partition, record.offset) for record in expected}
        for place in sorted(places | set(found)):
            times = found[place]
            if (place in places) != bool(times) or (self._exactly_once and times > 1):
                self.broken(f"{place}: {times} times its {what}, expected {int(place in places)}")


def fence_of(state: bytes) -> int:
    """The fence of an encoded state."""
    return int.from_bytes(state[_FENCE], "little", signed=True)
