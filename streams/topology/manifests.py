"""The declared topology as manifests of the Strimzi operator: a KafkaTopic a topic, a KafkaUser a kind of worker.

Knows nothing of brokers, and loads no agent: what each may touch is a table here, which tests hold against the agents.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from streams.errors import UserMistake
from streams.heartbeat import BEATING
from streams.settings import Settings
from streams.topology.topics import (
    AUDIO,
    CLICKS,
    DLQ_PROGRESS,
    ITEM_TABLE,
    ITEMS,
    LABELS,
    PRIVACY,
    PRIVACY_RECEIPTS,
    RECOMMENDATIONS,
    TASTE_CHANGELOG,
    TOPOLOGY,
    TRANSITIONS,
    UPLOADS,
    Topic,
    dead_letter,
    prefixed,
    retry,
)

API = "kafka.strimzi.io/v1"  # since Strimzi 0.49, and the only one since 1.0
USERS: dict[str, tuple[str, ...]] = {
    "headrace-clicks": ("clicks", "items", "privacy"),
    "headrace-media": ("audio", "uploads"),
}
"""KafkaUser -> the agents that its workers run."""


@dataclass(frozen=True, slots=True)
class Rights:
    """What one agent does to topics. `companions` run wherever it does."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    companions: tuple[str, ...] = ()
    deletes: tuple[str, ...] = ()


def _media(topic: str, source: str, companions: tuple[str, ...] = ()) -> Rights:
    return Rights((topic,), (LABELS, dead_letter(source), retry(source)), companions)


RIGHTS: dict[str, Rights] = {
    "clicks": Rights(
        (CLICKS, TASTE_CHANGELOG, ITEM_TABLE, ITEMS),
        (RECOMMENDATIONS, TRANSITIONS, TASTE_CHANGELOG, PRIVACY, dead_letter(CLICKS)),
    ),
    "privacy": Rights(
        (PRIVACY, DLQ_PROGRESS, dead_letter(CLICKS), dead_letter(PRIVACY)),
        (CLICKS, PRIVACY_RECEIPTS, dead_letter(CLICKS), dead_letter(PRIVACY)),
        deletes=(dead_letter(CLICKS), dead_letter(PRIVACY)),
    ),
    "items": Rights((TRANSITIONS, ITEM_TABLE), (ITEM_TABLE,)),
    "content": Rights((LABELS,), (TRANSITIONS,)),
    "audio": _media(AUDIO, AUDIO, ("audio-retry",)),
    "uploads": _media(UPLOADS, UPLOADS, ("uploads-retry",)),
    "audio-retry": _media(retry(AUDIO), AUDIO),
    "uploads-retry": _media(retry(UPLOADS), UPLOADS),
}
"""Agent -> what it reads and writes."""


def rights_of(agent: str) -> Rights:
    """Those of the table; none for an agent that is not in it."""
    return RIGHTS.get(agent, Rights((), ()))


def shown(agents: Iterable[str]) -> set[str]:
    """Topics that a worker with these agents follows for its page and its queries: labels and dead letters, where it
    writes some itself; titles of items, where it lists them."""
    written = {topic for agent in agents for topic in rights_of(agent).writes}
    found = written & {LABELS, *(topic.name for topic in TOPOLOGY if topic.role == "dead_letter")}
    return found | ({ITEMS} if RECOMMENDATIONS in written else set())


def strimzi(settings: Settings, cluster: str, users: Mapping[str, Sequence[str]]) -> str:
    """All topics, then the users, as one YAML stream. Raises UserMistake for an agent that there is not."""
    manifests = [_topic(settings, cluster, topic) for topic in TOPOLOGY]
    manifests += [_user(settings, cluster, name, agents) for name, agents in users.items()]
    return "".join(
        f"---\n{yaml.safe_dump(one, sort_keys=False, allow_unicode=True, width=1000)}" for one in manifests
    )


def _meta(name: str, cluster: str) -> dict[str, Any]:
    return {
        "name": name,
        "labels": {"app.kubernetes.io/part-of": "headrace", "strimzi.io/cluster": cluster},
    }


def _topic(settings: Settings, cluster: str, topic: Topic) -> dict[str, Any]:
    name = prefixed(settings.kafka.topic_prefix, topic.name)
    return {
        "apiVersion": API,
        "kind": "KafkaTopic",
        "metadata": _meta(_resource_name(name), cluster),
        "spec": {
            "topicName": name,
            "partitions": topic.partitions or settings.topics.partitions,
            "replicas": settings.topics.replication,
            "config": {
                key: int(value) if value.isdigit() else value for key, value in topic.config().items()
            },
        },
    }


def _resource_name(topic: str) -> str:
    """A name that Kubernetes takes: a topic may hold capitals and underscores, a resource may not."""
    return re.sub(r"[^a-z0-9.-]", "-", topic.lower()).strip("-.")


def _user(settings: Settings, cluster: str, name: str, agents: Sequence[str]) -> dict[str, Any]:
    running = _with_companions(agents)
    reads = {topic for agent in running for topic in RIGHTS[agent].reads}
    if settings.observe.page:
        reads |= shown(running)
    writes = {topic for agent in running for topic in RIGHTS[agent].writes}
    if settings.observe.heartbeat_s:
        writes |= reads & BEATING - {ITEMS}
    deletes = {topic for agent in running for topic in RIGHTS[agent].deletes}
    acls = []
    for topic in TOPOLOGY:
        # Describe on all: a worker starts only when the whole topology is there. The limits of what workers write
        # are read from the topics' settings.
        operations = ["Describe"]
        operations += ["DescribeConfigs"] if topic.role != "input" else []
        operations += ["Read"] if topic.name in reads else []
        operations += ["Write"] if topic.name in writes else []
        operations += ["Delete"] if topic.name in deletes else []
        acls.append(_acl("topic", prefixed(settings.kafka.topic_prefix, topic.name), operations))
    group = settings.kafka.group
    acls += [_acl("group", f"{group}.{agent}", ["Describe", "Read"]) for agent in running]
    if settings.worker.delivery == "exactly_once":
        acls.append(_acl("transactionalId", group, ["Describe", "Write"], "prefix"))
    return {
        "apiVersion": API,
        "kind": "KafkaUser",
        "metadata": _meta(name, cluster),
        "spec": {
            "authentication": {"type": "tls"},
            "authorization": {"type": "simple", "acls": acls},
        },
    }


def _acl(kind: str, name: str, operations: list[str], pattern: str = "literal") -> dict[str, Any]:
    return {"resource": {"type": kind, "name": name, "patternType": pattern}, "operations": operations}


def _with_companions(agents: Iterable[str]) -> list[str]:
    found: dict[str, None] = {}
    for agent in agents:
        if agent not in RIGHTS:
            raise UserMistake(f"there is no agent {agent!r}; there are {', '.join(RIGHTS)}")
        found |= dict.fromkeys((agent, *RIGHTS[agent].companions))
    return list(found)
