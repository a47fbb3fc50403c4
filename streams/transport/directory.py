"""Who owns which partition, as the consumer group itself says: no topic, no heartbeat, no clock of our own.

A worker joins its groups with the address of its HTTP port as the `user_data` of its subscription; the group's
coordinator keeps it with the member's assignment, and DescribeGroups gives both. So an address lives exactly as long
as the membership, and changes hands in the same rebalance as the partitions. Members without an address (older
workers, other clients) own partitions all the same; their address is None. Tansu 0.6 describes members without
subscription and assignment: there no owner is ever known.
"""

import asyncio
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from aiokafka.errors import KafkaError

from streams.clock import Clock
from streams.errors import Retry
from streams.sections.kafka import Kafka
from streams.transport.client import client_options

log = logging.getLogger(__name__)

FRESH_S = 1.0  # an answer of the coordinator is used again for so long
ANSWERS_WITHIN_S = 2.0
CLOSES_WITHIN_S = 2.0
ADDRESS = re.compile(r"https?://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):\d{1,5}")
MAX_ADDRESS_CHARS = 300


@dataclass(frozen=True, slots=True)
class Member:
    """One worker in one group. `address` is the base URL of its HTTP port."""

    member: str
    host: str
    address: str | None
    partitions: dict[str, list[int]] = field(default_factory=dict)  # topic on the cluster -> its partitions


def addressed(address: str) -> type[RangePartitionAssignor]:
    """The range assignor for a member that tells its address. Assignments stay those of `range`."""

    class Addressed(RangePartitionAssignor):  # type: ignore[misc]
        @classmethod
        def metadata(cls, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
            return ConsumerProtocolMemberMetadata(cls.version, list(topics), address.encode())

    return Addressed


class Directory:
    """Asks the coordinator at most once a second a group, however many want to know."""

    def __init__(self, kafka: Kafka, clock: Clock) -> None:
        self._kafka = kafka
        self._clock = clock
        self._admin: AIOKafkaAdminClient | None = None
        self._turn = asyncio.Lock()
        self._known: dict[str, tuple[float, list[Member]]] = {}

    async def owner(self, group: str, topic: str, partition: int) -> str | None:
        """The address of the worker that owns a partition (topic as on the cluster); None when nobody does at this
        moment, or does not tell. Raises Retry when the coordinator does not answer."""
        for member in await self.members(group):
            if partition in member.partitions.get(topic, ()):
                return member.address
        return None

    async def members(self, group: str) -> list[Member]:
        """Who is in a group; nobody's partitions are known while it rebalances. Raises Retry."""
        async with self._turn:
            asked_s, members = self._known.get(group, (float("-inf"), []))
            if self._clock.monotonic_s() - asked_s < FRESH_S:
                return members
            try:
                members = await asyncio.wait_for(self._ask(group), ANSWERS_WITHIN_S)
            except (KafkaError, OSError, asyncio.TimeoutError, ValueError) as error:
                await self._close()
                raise Retry(f"the coordinator of {group} does not answer: {error!r}") from error
            self._known[group] = (self._clock.monotonic_s(), members)
            return members

    async def stop(self) -> None:
        """Close the connection."""
        async with self._turn:
            await self._close()

    async def _ask(self, group: str) -> list[Member]:
        admin = await self._connected()
        (answer,) = await admin.describe_consumer_groups([group])
        found = []
        for code, _, _, _, _, members, *_ in answer.groups:
            if code:
                raise ValueError(f"error {code}")
            for member, *rest in members:
                found.append(_member(member, *rest[-4:]))
        return found

    async def _connected(self) -> AIOKafkaAdminClient:
        if self._admin is None:
            admin = AIOKafkaAdminClient(**client_options(self._kafka))
            try:
                await admin.start()
            except BaseException:
                await _close_admin(admin)
                raise
            self._admin = admin
        return self._admin

    async def _close(self) -> None:
        admin, self._admin = self._admin, None
        if admin is not None:
            await _close_admin(admin)


async def _close_admin(admin: AIOKafkaAdminClient) -> None:
    closing = asyncio.ensure_future(admin.close())
    await asyncio.wait([closing], timeout=CLOSES_WITHIN_S)
    if not closing.done():
        closing.cancel()
    elif not closing.cancelled() and closing.exception() is not None:
        log.warning("a connection did not close cleanly: %r", closing.exception())


def _member(member: str, client: str, host: str, metadata: bytes, assignment: bytes) -> Member:
    """`metadata` and `assignment` may come from any client of the group: what does not decode says nothing."""
    partitions: dict[str, list[int]] = {}
    address = None
    try:
        if assignment:
            for topic, numbers in ConsumerProtocolMemberAssignment.decode(assignment).assignment:
                partitions[topic] = sorted(numbers)
        if metadata:
            address = address_of(ConsumerProtocolMemberMetadata.decode(metadata).user_data)
    except (ValueError, TypeError):
        return Member(member, host, None, partitions)
    return Member(member, host, address, partitions)


def address_of(user_data: bytes | None) -> str | None:
    """The base URL that a member gave, or None for what is not one: it goes into redirects."""
    if not user_data or len(user_data) > MAX_ADDRESS_CHARS:
        return None
    text = user_data.decode("latin-1")
    return text if ADDRESS.fullmatch(text) else None
