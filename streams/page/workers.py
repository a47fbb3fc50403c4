"""Workers and their partitions, group by group: this one from its readers, the others as the coordinator says."""

from collections.abc import Mapping
from typing import Any

from streams.errors import Retry
from streams.query.served import Served
from streams.sections.kafka import Kafka
from streams.topology.topics import prefixed
from streams.transport.directory import Directory, Member


class Workers:
    """What was last heard. Groups whose coordinator does not answer keep what was known."""

    def __init__(self, kafka: Kafka, served: Mapping[str, Served], directory: Directory) -> None:
        self._kafka = kafka
        self._served = served
        self._directory = directory
        self._members: dict[str, list[Member]] = {}
        self.address: str | None = None

    async def refresh(self) -> None:
        """Ask the coordinators."""
        for name in self._served:
            try:
                self._members[name] = await self._directory.members(f"{self._kafka.group}.{name}")
            except Retry:
                continue

    def rows(self) -> list[dict[str, Any]]:
        """One row a worker and agent."""
        found: list[dict[str, Any]] = []
        for name, served in self._served.items():
            topic = prefixed(self._kafka.topic_prefix, served.agent.topic)
            owned, closed = served.reader.owned, set(served.reader.closed)
            found.append(
                {
                    "agent": name,
                    "worker": self.address or "this worker",
                    "here": True,
                    "partitions": owned,
                    "closed": sorted(closed),
                }
            )
            for member in self._members.get(name, []):
                partitions = member.partitions.get(topic, [])
                if not partitions or member.address == self.address or set(partitions) & set(owned):
                    continue
                found.append(
                    {
                        "agent": name,
                        "worker": member.address or member.host,
                        "here": False,
                        "partitions": partitions,
                        "closed": [],
                    }
                )
        return found
