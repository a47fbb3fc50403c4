"""What this worker shows of itself on its HTTP port, put together: queries, and the live page."""

import asyncio
import ipaddress
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from streams.clock import Clock
from streams.feed.deadletters import letter_of
from streams.feed.latest import follow
from streams.manifests import shown
from streams.query.api import QueryApi
from streams.query.latest import LatestLabels, LatestLetters
from streams.query.served import Served
from streams.settings import Settings
from streams.topics import LABELS
from streams.transport.directory import Directory


class Face:
    """Built before the port is bound, started once the topics are there."""

    def __init__(self, settings: Settings, clock: Clock, version: str, served: Mapping[str, Served]) -> None:
        self._settings = settings
        self._served = served
        self._tasks: list[asyncio.Task[None]] = []
        self._directory = Directory(settings.kafka, clock)
        self._labels = LatestLabels(settings.observe.labels_kept)
        self._letters = LatestLetters()
        self._api = QueryApi(settings, clock, version, served, self._directory, self._labels)

    def routes(self) -> list[web.RouteDef]:
        """For the port."""
        return self._api.routes()

    def bound(self, port: int) -> None:
        """The port is open: from now on it has an address."""
        observe = self._settings.observe
        self._api.address = observe.advertise or _address(observe.host, port)

    @property
    def address(self) -> str | None:
        """How others reach the queries; None when they are off, or on a wildcard address with nothing advertised."""
        return self._api.address if self._settings.observe.page else None

    def login(self) -> web.Response:
        """The form that asks a person for the token."""
        return web.Response(status=401, text="bring the token")

    def start(self) -> None:
        """Follow what all workers publish."""
        observe = self._settings.observe
        if observe.enabled and observe.page:
            self._tasks.append(asyncio.create_task(self._follow()))

    async def stop(self) -> None:
        """Close connections."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2.0)
        await self._directory.stop()

    async def _follow(self) -> None:
        partitions = self._settings.topics.partitions
        topics = shown(self._served)
        if not self._settings.observe.labels_kept:
            topics.discard(LABELS)
        if topics:
            back = max(self._settings.observe.labels_kept, 100)
            await follow(self._settings, dict.fromkeys(topics, partitions), back, self._take)

    def _take(self, topic: str, record: Any) -> None:
        if topic == LABELS:
            self._labels.add(record.value)
        else:
            self._letters.add(letter_of(topic.removesuffix(".dlt"), record).as_json())


def _address(host: str, port: int) -> str | None:
    """The base URL of a bind address; None for a wildcard, which nobody can ask."""
    try:
        if ipaddress.ip_address(host).is_unspecified:
            return None
    except ValueError:
        pass
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
