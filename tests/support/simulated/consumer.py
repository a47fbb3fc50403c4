"""A simulated `AIOKafkaConsumer`: what `streams.transport` and `streams.state.changelog` call of it, with the
order of things of aiokafka 0.14 (revoke, join, sync, assign; heartbeats beside; nothing is handed on in between)."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    ConsumerStoppedError,
    IllegalGenerationError,
    IllegalStateError,
    KafkaError,
    NoError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

from simulated.broker import Broker
from simulated.log import Stored
from simulated.loop import VirtualLoop
from simulated.network import Network

BACKOFF_S = 0.1
_OUT_OF_GROUP = (UnknownMemberIdError, IllegalGenerationError)


@dataclass(slots=True)
class _Place:
    """One assigned partition."""

    at: int | None = None
    paused: bool = False
    high: int | None = None


class SimulatedConsumer:
    """With `group_id` a member of the broker's group, without one a plain reader."""

    def __init__(
        self, loop: VirtualLoop, chance: random.Random, broker: Broker, network: Network, **options: Any
    ) -> None:
        self._loop = loop
        self._chance = chance
        self._broker = broker
        self._network = network
        self._options = options
        self._timeout_s = options["request_timeout_ms"] / 1000
        self._most = options.get("max_poll_records", 500)
        self._places: dict[TopicPartition, _Place] = {}
        self._listener: ConsumerRebalanceListener | None = None
        self._closed = False
        self._more = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        broker.readers.append(self._grown)
        self._coordinator = _Membership(self)  # named as in aiokafka: `offsets.is_member` reaches for it
        self._client = SimpleNamespace(
            send=None
        )  # `keep_pace` and `be_patient` reach for it; nothing is fetched through it

    # -- life

    def subscribe(self, topics: list[str], listener: ConsumerRebalanceListener) -> None:
        self._listener = listener

    async def start(self) -> None:
        await self._ask(_nothing)
        if self._options["group_id"] is not None:
            self._coordinator.start()

    async def stop(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._broker.readers.remove(self._grown)
        self._more.set()
        await self._coordinator.stop()

    async def _ask(self, answer: Callable[..., Any], *args: Any) -> Any:
        return await self._network.call(self._timeout_s, answer, *args)

    # -- places

    def assign(self, tps: list[TopicPartition]) -> None:
        self._places = {tp: _Place() for tp in tps}

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self._place(tp).at = offset
        self._more.set()

    def pause(self, tp: TopicPartition) -> None:
        self._place(tp).paused = True

    def resume(self, tp: TopicPartition) -> None:
        self._place(tp).paused = False
        self._more.set()

    def highwater(self, tp: TopicPartition) -> int | None:
        return self._place(tp).high

    async def position(self, tp: TopicPartition) -> int:
        place = self._place(tp)
        self._advance(tp, place, 0)  # over markers, as a fetch does
        assert place.at is not None
        return place.at

    def _place(self, tp: TopicPartition) -> _Place:
        place = self._places.get(tp)
        if place is None:
            raise IllegalStateError(f"{tp} is not assigned")
        return place

    async def end_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        found: dict[TopicPartition, int] = await self._ask(
            lambda: {tp: self._broker.log(tp).stable for tp in tps}
        )
        return found

    async def beginning_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        found: dict[TopicPartition, int] = await self._ask(lambda: dict.fromkeys(tps, 0))
        return found

    # -- records

    async def getmany(self, *tps: TopicPartition, timeout_ms: int = 0) -> dict[TopicPartition, list[Stored]]:
        if self._closed:
            raise ConsumerStoppedError
        deadline_s = self._loop.time() + timeout_ms / 1000
        while True:
            await self._settled.wait()
            found = {} if self._network.silent else self._buffered(tps)
            left_s = deadline_s - self._loop.time()
            if found or left_s <= 0 or self._closed:
                return found
            self._more.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._more.wait(), left_s)

    def _grown(self, tp: TopicPartition) -> None:
        """A fetch that waited at the broker is answered."""
        if tp in self._places and not self._more.is_set():
            self._loop.later(self._chance.uniform(0.0005, 0.01), self._more.set)

    def _buffered(self, tps: tuple[TopicPartition, ...]) -> dict[TopicPartition, list[Stored]]:
        found: dict[TopicPartition, list[Stored]] = {}
        left = self._chance.randint(1, self._most)  # batches are cut anywhere
        for tp, place in self._places.items():
            if (tps and tp not in tps) or place.paused or place.at is None:
                continue
            records = self._advance(tp, place, left)
            left -= len(records)
            if records:
                found[tp] = records
            if left <= 0:
                break
        return found

    def _advance(self, tp: TopicPartition, place: _Place, most: int) -> list[Stored]:
        if place.at is None:
            return []
        log = self._broker.log(tp)
        records, place.at = log.read(place.at, most)
        place.high = log.end
        return records

    # -- offsets

    async def committed(self, tp: TopicPartition) -> int | None:
        found = await self._coordinator.retrying(self._broker.group.fetch, [tp])
        offset: int | None = found.get(tp)
        return offset

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        for tp in offsets:
            self._place(tp)
        await self._coordinator.commit(dict(offsets))


class _Membership:
    """The part of a consumer that is a member of a group. Public names are aiokafka's."""

    def __init__(self, consumer: SimulatedConsumer) -> None:
        self._consumer = consumer
        self._group = consumer._broker.group
        self._options = consumer._options
        self.group_id = self._options["group_id"]
        self.generation = -1
        self.member_id = ""
        self._rejoin = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._beats: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._coordinate())

    async def stop(self) -> None:
        """The work of joining ends first, as in aiokafka; then the group is told."""
        self._closing = True
        self._rejoin.set()
        if self._task is None:
            return
        await asyncio.wait([self._task])
        self._stop_beats()
        if self.generation > 0:
            with contextlib.suppress(KafkaError):
                await self._consumer._ask(self._group.leave, self.member_id)

    async def _coordinate(self) -> None:
        consumer = self._consumer
        prepared = False
        while not self._closing:
            if not prepared:
                consumer._settled.clear()
                assert consumer._listener is not None
                await consumer._listener.on_partitions_revoked(sorted(consumer._places))
                prepared = True
            self._stop_beats()
            self._rejoin.clear()
            tps = await self._joined()
            if tps is None:
                await asyncio.sleep(BACKOFF_S)
                continue
            prepared = False
            consumer._places = {tp: _Place() for tp in tps}
            consumer._settled.set()
            found = asyncio.create_task(self._find_places(consumer._places))
            await consumer._listener.on_partitions_assigned(tps)
            self._beats = asyncio.create_task(self._beat())
            await self._rejoin.wait()
            found.cancel()
        consumer._settled.set()

    async def _joined(self) -> list[TopicPartition] | None:
        """One attempt. The answer comes when all others have joined, so it is waited for as long as they may take."""
        session_s = self._options["session_timeout_ms"] / 1000
        rebalance_s = self._options["rebalance_timeout_ms"] / 1000
        ask = self._consumer._network.call
        try:
            self.generation, self.member_id = await ask(
                rebalance_s + self._consumer._timeout_s,
                self._group.join,
                self.member_id,
                session_s,
                rebalance_s,
            )
            tps: list[TopicPartition] = await self._consumer._ask(
                self._group.sync, self.member_id, self.generation
            )
        except _OUT_OF_GROUP:
            self._reset()
            return None
        except KafkaError:
            return None
        return tps

    async def _find_places(self, places: dict[TopicPartition, _Place]) -> None:
        """Where the group had committed, or the start."""
        found = await self.retrying(self._group.fetch, list(places))
        for tp, place in places.items():
            if place.at is None:
                place.at = found.get(tp, 0)
        self._consumer._more.set()

    def _reset(self) -> None:
        self.generation, self.member_id = -1, ""
        self._rejoin.set()

    def _stop_beats(self) -> None:
        if self._beats is not None:
            self._beats.cancel()
            self._beats = None

    async def _beat(self) -> None:
        interval_s = wait_s = self._options["heartbeat_interval_ms"] / 1000
        while self.member_id:
            await asyncio.sleep(wait_s)
            wait_s = interval_s if await self._do_heartbeat() else BACKOFF_S

    async def _do_heartbeat(self) -> bool:
        """Whether the group counts this member in, in its generation."""
        try:
            await self._consumer._ask(self._group.heartbeat, self.member_id, self.generation)
        except RebalanceInProgressError:
            self._rejoin.set()
        except _OUT_OF_GROUP:
            self._reset()
            return False
        except KafkaError:
            return False
        return True

    async def retrying(self, what: Callable[..., Any], *args: Any) -> Any:
        """aiokafka asks for committed offsets until it is told."""
        while True:
            try:
                return await self._consumer._ask(what, *args)
            except KafkaError:
                await asyncio.sleep(BACKOFF_S)

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        while True:
            try:
                await asyncio.shield(asyncio.ensure_future(self._do_commit_offsets(None, offsets)))
                return
            except (*_OUT_OF_GROUP, RebalanceInProgressError) as error:
                if isinstance(error, RebalanceInProgressError):
                    self._rejoin.set()
                else:
                    self._reset()
                raise CommitFailedError("the group has moved on") from error
            except KafkaError:
                await asyncio.sleep(BACKOFF_S)

    async def _do_commit_offsets(self, assignment: Any, offsets: Mapping[TopicPartition, int]) -> None:
        """Named as in aiokafka: `offsets.only_as_member` reaches for it."""
        await self._consumer._ask(self._group.commit, self.member_id, self.generation, offsets)

    async def _send_req(self, request: Any) -> Any:
        """A heartbeat, asked for by `streams.transport.offsets.is_member`. Raises KafkaError."""
        try:
            await self._consumer._ask(self._group.heartbeat, request._member_id, request._generation_id)
        except (*_OUT_OF_GROUP, RebalanceInProgressError) as error:
            return SimpleNamespace(error_code=error.errno)
        return SimpleNamespace(error_code=NoError.errno)


def _nothing() -> None: ...
