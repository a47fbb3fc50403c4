"""A consumer group as its coordinator sees it: members, generations, sessions, committed offsets. Eager, by range."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from aiokafka import TopicPartition
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    IllegalGenerationError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

from simulated.loop import VirtualLoop


@dataclass(slots=True, eq=False)
class _Member:
    session_s: float
    rebalance_s: float
    seen_s: float
    joining: "asyncio.Future[tuple[int, str] | Exception] | None" = None


class Group:
    """`committed_hook` is told every offset that becomes committed; `say` what happens to the group."""

    def __init__(
        self,
        loop: VirtualLoop,
        partitions: Sequence[TopicPartition],
        committed_hook: Callable[[Mapping[TopicPartition, int]], None],
        say: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._partitions = partitions
        self._hook = committed_hook
        self._say = say
        self._members: dict[str, _Member] = {}
        self._assigned: dict[str, list[TopicPartition]] = {}
        self._joining = False
        self._round = 0
        self._named = 0
        self._away = False
        self.generation = 0
        self.committed: dict[TopicPartition, int] = {}

    # -- the coordinator goes away and comes back as another broker

    def go_away(self) -> None:
        self._away = True
        for member in self._members.values():
            _resolve(member, GroupCoordinatorNotAvailableError())

    def come_back(self) -> None:
        """Sessions start anew: the new coordinator has heard from nobody yet."""
        self._away = False
        for member in self._members.values():
            member.seen_s = self._loop.time()
        if self._joining:
            self._prepare()

    # -- what members ask

    def join(
        self, member_id: str, session_s: float, rebalance_s: float
    ) -> "asyncio.Future[tuple[int, str] | Exception]":
        """Answered when everybody has joined, or was given up."""
        self._check_here()
        if not member_id:
            self._named += 1
            member_id = f"member{self._named}"
            self._members[member_id] = _Member(session_s, rebalance_s, self._loop.time())
            self._loop.later(session_s, self._expire, member_id)
        member = self._known(member_id)
        member.seen_s = self._loop.time()
        _resolve(member, RebalanceInProgressError())
        member.joining = self._loop.create_future()
        if not self._joining:
            self._prepare()
        asked = member.joining
        self._complete_if_all()
        return asked

    def sync(self, member_id: str, generation: int) -> list[TopicPartition]:
        """The member's partitions."""
        self._check_here()
        self._check(member_id, generation)
        if self._joining:
            raise RebalanceInProgressError
        return self._assigned[member_id]

    def heartbeat(self, member_id: str, generation: int) -> None:
        self._check_here()
        self._check(member_id, generation)
        if self._joining:
            raise RebalanceInProgressError

    def leave(self, member_id: str) -> None:
        self._check_here()
        self._known(member_id)
        self._remove(member_id, "left")

    def commit(self, member_id: str, generation: int, offsets: Mapping[TopicPartition, int]) -> None:
        self._check_here()
        if (
            generation >= 0 or self._members
        ):  # an empty group takes the offsets of clients that are no members
            self._check(member_id, generation)
        self.apply(offsets)

    def fetch(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        self._check_here()
        return {tp: self.committed[tp] for tp in tps if tp in self.committed}

    def apply(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Offsets become committed; by a transaction, without a word about members."""
        self._hook(offsets)
        self.committed |= offsets

    # -- inside

    def _check_here(self) -> None:
        if self._away:
            raise GroupCoordinatorNotAvailableError

    def _known(self, member_id: str) -> _Member:
        member = self._members.get(member_id)
        if member is None:
            raise UnknownMemberIdError
        return member

    def _check(self, member_id: str, generation: int) -> None:
        member = self._known(member_id)
        if generation != self.generation:
            raise IllegalGenerationError
        member.seen_s = self._loop.time()

    def _prepare(self) -> None:
        self._joining = True
        self._round += 1
        longest_s = max(member.rebalance_s for member in self._members.values())
        self._loop.later(longest_s, self._give_up_waiting, self._round)

    def _give_up_waiting(self, of_round: int) -> None:
        if self._joining and self._round == of_round and not self._away:
            for member_id in [name for name, m in self._members.items() if m.joining is None]:
                self._remove(member_id, "did not join in time")
            self._complete_if_all()

    def _complete_if_all(self) -> None:
        if not self._joining or any(member.joining is None for member in self._members.values()):
            return
        self._joining = False
        self.generation += 1
        names = sorted(self._members)
        self._assigned = {name: list(self._partitions[i :: len(names)]) for i, name in enumerate(names)}
        shares = {name: [tp.partition for tp in tps] for name, tps in self._assigned.items()}
        self._say(f"generation {self.generation}: {shares}")
        for name in names:
            self._members[name].seen_s = self._loop.time()
            _resolve(self._members[name], (self.generation, name))

    def _expire(self, member_id: str) -> None:
        member = self._members.get(member_id)
        if member is None:
            return
        left_s = member.seen_s + member.session_s - self._loop.time()
        if self._away or member.joining is not None:
            left_s = member.session_s
        if left_s > 1e-9:
            self._loop.later(left_s, self._expire, member_id)
        else:
            self._remove(member_id, "expired")

    def _remove(self, member_id: str, why: str) -> None:
        self._say(f"{member_id} {why}")
        del self._members[member_id]
        if not self._members:
            self._joining = False
        elif self._joining:
            self._complete_if_all()
        else:
            self._prepare()


def _resolve(member: _Member, answer: "tuple[int, str] | Exception") -> None:
    future, member.joining = member.joining, None
    if future is not None and not future.done():
        future.set_result(answer)
