"""The declared topology against a cluster: what is missing, what differs, and the creation of what is missing.

Only creates. A topic with a wrong partition count is reported and left: changing the count would send readers
to other partitions than their state. Drifted settings are reported with what they should be. Works on brokers
that cannot describe settings (then they are not compared). Every wait is bounded.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError, for_code

from streams.effects import batch_bytes
from streams.errors import EnvironmentProblem, NoBroker
from streams.sections.kafka import Kafka
from streams.settings import Settings
from streams.topology.topics import TOPOLOGY, Topic, prefixed
from streams.transport.client import check_not_refused, client_options, refusal
from streams.transport.diagnosis import check_let_in

NO_ERROR, TOPIC_ALREADY_EXISTS = 0, 36
VISIBLE_WITHIN_S = 10.0

Kind = Literal["missing", "partitions", "config"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which the cluster is not as declared. `topic` is the name on the cluster."""

    topic: str
    kind: Kind
    setting: str
    wanted: str
    found: str | None

    def words(self) -> str:
        """One line for people, with what to do."""
        if self.kind == "missing":
            return f"{self.topic}: missing, to be created with {self.wanted} partitions"
        if self.kind == "partitions":
            return (
                f"{self.topic}: {self.found} partitions instead of {self.wanted}; left as it is, since keys "
                "would move away from their state (set topics.partitions, or start with a new prefix)"
            )
        return f"{self.topic}: {self.setting} is {self.found} instead of {self.wanted}; left as it is"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


async def plan(settings: Settings) -> list[Difference]:
    """What `apply` would create and what it would leave. Raises EnvironmentProblem when no broker answers."""
    async with admin_client(settings.kafka) as client:
        return await _differences(client, settings)


async def apply(settings: Settings) -> tuple[list[Difference], list[Difference]]:
    """Create what is missing; returns (created, still different). Fine to run again, and by two at once."""
    async with admin_client(settings.kafka) as client:
        found = await _differences(client, settings)
        missing = {one.topic for one in found if one.kind == "missing"}
        if not missing:
            return [], found
        made = await _create(client, settings, [t for t in TOPOLOGY if _name(settings, t) in missing])
        await _until_visible(client, missing)
        # Again: somebody else may have made one of them a moment ago, and not as declared.
        return [one for one in found if one.topic in made], await _differences(client, settings)


async def require_topology(settings: Settings) -> None:
    """Raises EnvironmentProblem, naming every topic that is missing or has other partitions; NoBroker.

    By the list of all topics: a broker that creates what it is asked about would hide what is missing.
    """
    async with admin_client(settings.kafka) as client:
        counts = await _partition_counts(client)
    wrong: list[str] = []
    for topic in TOPOLOGY:
        name, wanted = _name(settings, topic), partitions_of(settings, topic)
        if name not in counts:
            wrong.append(name)
        elif counts[name] != wanted:
            wrong.append(f"{name} has {counts[name]} partitions, not {wanted}")
    if wrong:
        raise EnvironmentProblem(
            f"topics are missing or different: {', '.join(wrong)}; "
            f"`headrace topics apply` creates what is missing{_or_unseen(settings.kafka)}"
        )


async def require_limits(settings: Settings) -> dict[str, int]:
    """Topic that workers write -> the largest batch it takes, as far as the broker tells.

    Raises EnvironmentProblem when one takes less than `kafka.max_message_bytes`: whole batches would be refused.
    """
    written = [topic for topic in TOPOLOGY if topic.role != "input"]
    async with admin_client(settings.kafka) as client:
        configs = await _configs(client, [_name(settings, topic) for topic in written])
    limits = {}
    for topic in written:
        told = configs.get(_name(settings, topic), {}).get("max.message.bytes", "")
        if told.isdigit():
            limits[topic.name] = int(told)
    small = [f"{name} {limit}" for name, limit in limits.items() if limit < settings.kafka.max_message_bytes]
    if small:
        raise EnvironmentProblem(
            f"topics take less than kafka.max_message_bytes = {settings.kafka.max_message_bytes}: "
            f"{', '.join(small)}; lower it, or raise their max.message.bytes"
        )
    return limits


def require_room(rows: Mapping[str, int], settings: Settings) -> None:
    """`rows`: changelog -> the largest row it may get. A row that no broker takes could be neither left out nor
    repeated; so a worker whose settings make it possible does not start. Raises EnvironmentProblem."""
    for topic, size in rows.items():
        needed = size + batch_bytes(b"", b"", ())
        if needed > settings.kafka.max_message_bytes:
            raise EnvironmentProblem(
                f"a row of {topic} takes up to {needed} bytes with taste.dim, taste.half_lives_s, taste.ring and "
                f"topics.partitions as they are, more than kafka.max_message_bytes = "
                f"{settings.kafka.max_message_bytes}: raise it (and the brokers' message.max.bytes), or lower those"
            )


async def require_topics(settings: Settings, topics: Iterable[str]) -> dict[str, int]:
    """Topic -> its partitions on the cluster. Raises EnvironmentProblem, naming what is missing."""
    async with admin_client(settings.kafka) as client:
        counts = await _partition_counts(client)
    names = {topic: prefixed(settings.kafka.topic_prefix, topic) for topic in topics}
    missing = sorted(name for name in names.values() if name not in counts)
    if missing:
        raise EnvironmentProblem(
            f"no topic {', '.join(missing)} at {settings.kafka.bootstrap}: `headrace topics apply` creates them"
            f"{_or_unseen(settings.kafka)}"
        )
    return {topic: counts[name] for topic, name in names.items()}


async def committed_offsets(
    kafka: Kafka, group: str, partitions: Sequence[TopicPartition]
) -> dict[TopicPartition, int]:
    """Where a consumer group stands; without partitions where it never committed. Raises EnvironmentProblem.

    Partitions are named: asked for all that there are, Tansu gives an answer that nobody can read.
    """
    async with admin_client(kafka) as client:
        found = await client.list_consumer_group_offsets(group, partitions=list(partitions))
    return {tp: int(one.offset) for tp, one in found.items() if one.offset >= 0}


async def cluster(kafka: Kafka) -> dict[str, Any]:
    """What the cluster says of itself: `cluster_id`, `brokers`, ... Raises EnvironmentProblem."""
    async with admin_client(kafka) as client:
        return dict(await client.describe_cluster())


def _or_unseen(kafka: Kafka) -> str:
    """A cluster with ACLs hides what a user may not describe."""
    return "" if kafka.security_protocol == "PLAINTEXT" else "; or this user's ACLs lack Describe on them"


@asynccontextmanager
async def admin_client(kafka: Kafka) -> AsyncIterator[AIOKafkaAdminClient]:
    """A connected admin client. Raises EnvironmentProblem when there is no broker, or it stops answering."""
    client = AIOKafkaAdminClient(**client_options(kafka))
    connected = False
    try:
        await asyncio.wait_for(client.start(), kafka.request_timeout_s)
        connected = True
        yield client
    except (KafkaError, asyncio.TimeoutError, OSError) as error:
        check_not_refused(error, kafka)
        if not connected:
            await check_let_in(kafka)
        protocol = kafka.security_protocol
        spoken = "" if protocol == "PLAINTEXT" else f"; does it speak kafka.security_protocol = {protocol}?"
        raise NoBroker(
            f"no answer from a Kafka broker at {kafka.bootstrap} ({type(error).__name__}): start one "
            f"(`headrace demo` brings its own) or name it with --set kafka.bootstrap=host:port{spoken}"
        ) from error
    finally:
        await asyncio.wait_for(client.close(), kafka.request_timeout_s)


async def _differences(client: AIOKafkaAdminClient, settings: Settings) -> list[Difference]:
    counts = await _partition_counts(client)
    present = [topic for topic in TOPOLOGY if _name(settings, topic) in counts]
    configs = await _configs(client, [_name(settings, topic) for topic in present])
    found: list[Difference] = []
    for topic in TOPOLOGY:
        name, partitions = _name(settings, topic), partitions_of(settings, topic)
        if name not in counts:
            found.append(Difference(name, "missing", "topic", str(partitions), None))
            continue
        if counts[name] != partitions:
            found.append(Difference(name, "partitions", "partitions", str(partitions), str(counts[name])))
        theirs = configs.get(name, {})
        found += [
            Difference(name, "config", key, wanted, theirs[key])
            for key, wanted in topic.config().items()
            if key in theirs and theirs[key] != wanted
        ]
    return found


def partitions_of(settings: Settings, topic: Topic) -> int:
    """How many partitions a topic is to have."""
    return topic.partitions or settings.topics.partitions


def _name(settings: Settings, topic: Topic) -> str:
    return prefixed(settings.kafka.topic_prefix, topic.name)


async def _partition_counts(client: AIOKafkaAdminClient) -> dict[str, int]:
    """Of every topic that exists; asking for all of them never creates one."""
    return {
        str(topic["topic"]): len(topic["partitions"])
        for topic in await client.describe_topics()
        if topic["error_code"] == NO_ERROR
    }


async def _configs(client: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Topic -> its settings, as far as the broker tells; empty where it does not."""
    if not names:
        return {}
    asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    configs: dict[str, dict[str, str]] = {}
    try:
        responses = await client.describe_configs(asked)
    except IncompatibleBrokerVersion:  # it has no such request
        return configs
    for response in responses:
        for code, _message, _type, name, entries in response.resources:
            if code == NO_ERROR:
                configs[name] = {entry[0]: entry[1] for entry in entries if entry[1] is not None}
    return configs


async def _create(client: AIOKafkaAdminClient, settings: Settings, topics: Sequence[Topic]) -> set[str]:
    """The names that this call created; those that had come to be meanwhile are not among them."""
    wanted = [
        NewTopic(
            _name(settings, topic),
            partitions_of(settings, topic),
            settings.topics.replication,
            topic_configs=topic.config(),
        )
        for topic in topics
    ]
    response = await client.create_topics(wanted, timeout_ms=int(settings.kafka.request_timeout_s * 1000))
    results = [(*row, None)[:3] for row in response.topic_errors]
    refused = [
        f"{name}: {message or f'error {code}'}"
        for name, code, message in results
        if code not in (NO_ERROR, TOPIC_ALREADY_EXISTS)
    ]
    denied = [words for _, code, _ in results if (words := refusal(for_code(code)())) is not None]
    if denied:
        raise EnvironmentProblem(f"the broker refused to create topics: {denied[0]}")
    if refused:
        raise EnvironmentProblem("the broker refused to create topics:\n  " + "\n  ".join(refused))
    return {name for name, code, _ in results if code == NO_ERROR}


async def _until_visible(client: AIOKafkaAdminClient, names: set[str]) -> None:
    """Creation is asynchronous on a cluster; a producer that asks too early spins on an unknown topic."""
    for _ in range(int(VISIBLE_WITHIN_S / 0.1)):
        if names <= (await _partition_counts(client)).keys():
            return
        await asyncio.sleep(0.1)
    raise EnvironmentProblem(f"topics were created but are not visible after {VISIBLE_WITHIN_S:g} s")
