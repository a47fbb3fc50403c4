"""What this worker shows of itself on its HTTP port, put together: queries, and the live page."""

import asyncio
import contextlib
import ipaddress
import logging
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from aiohttp import web

from streams.clock import Clock
from streams.feed.deadletters import letter_of
from streams.feed.latest import follow
from streams.observe.catalogue import Metrics
from streams.observe.guard import token_of
from streams.page.live import LivePage
from streams.page.readers import TITLES_KEPT, Readers, Titles
from streams.page.workers import Workers
from streams.query.api import QueryApi
from streams.query.latest import LETTERS_KEPT, LatestLabels, LatestLetters
from streams.query.served import Served
from streams.settings import Settings
from streams.topology.manifests import shown
from streams.topology.topics import ITEMS, LABELS
from streams.transport.directory import Directory

log = logging.getLogger(__name__)


class Face:
    """Built before the port is bound, started once the topics are there."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        metrics: Metrics,
        version: str,
        served: Mapping[str, Served],
    ) -> None:
        self._settings = settings
        self._served = served
        self._tasks: list[asyncio.Task[None]] = []
        self._directory = Directory(settings.kafka, clock)
        self._labels = LatestLabels(settings.observe.labels_kept)
        self._letters = LatestLetters()
        self._titles = Titles()
        self._workers = Workers(settings.kafka, served, self._directory)
        self._api = QueryApi(settings, clock, version, served, self._directory, self._labels)
        self.token = token_of(settings.observe) if settings.observe.enabled else None
        self._readers = Readers(self._api, self._titles, self.token)
        self._page = LivePage(
            settings,
            clock,
            metrics,
            version,
            served,
            self._readers,
            self._labels,
            self._letters,
            self._workers,
        )

    def routes(self) -> list[web.RouteDef]:
        """For the port."""
        return [*self._api.routes(), *self._page.routes()]

    def bound(self, port: int) -> None:
        """The port is open: from now on it has an address."""
        observe = self._settings.observe
        self._api.address = self._workers.address = observe.advertise or _address(observe.host, port)

    @property
    def address(self) -> str | None:
        """How others reach the queries; None when they are off, or on a wildcard address with nothing advertised."""
        return self._api.address if self._settings.observe.page else None

    def start(self) -> None:
        """Follow what all workers publish, and send it to open pages."""
        observe = self._settings.observe
        if observe.enabled and observe.page:
            self._tasks += [asyncio.create_task(self._follow()), asyncio.create_task(self._page.run())]
            for task in self._tasks:
                task.add_done_callback(_ended)

    async def stop(self) -> None:
        """End the streams and close connections."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2.0)
        await self._page.stop()
        await self._readers.stop()
        await self._directory.stop()

    async def _follow(self) -> None:
        back = {LABELS: self._settings.observe.labels_kept, ITEMS: TITLES_KEPT}
        topics = {topic: back.get(topic, LETTERS_KEPT) for topic in shown(self._served)}
        topics = {topic: records for topic, records in topics.items() if records}
        if topics:
            await follow(self._settings, topics, self._take)

    def _take(self, topic: str, record: Any) -> None:
        if topic == ITEMS:
            self._titles.add(record.value)
        elif topic != LABELS:
            self._letters.add(letter_of(topic.removesuffix(".dlt"), record).as_json())
        elif (label := self._labels.add(record.value)) is not None:
            self._page.labelled(label)


def _ended(task: "asyncio.Task[None]") -> None:
    """The worker works on without its page; but nobody should wait for it."""
    if not task.cancelled() and task.exception() is not None:
        log.error("the live page stands still", exc_info=task.exception())


def login() -> web.Response:
    """The form that asks a person for the token."""
    body = files("streams.page").joinpath("static", "login.html").read_bytes()
    return web.Response(status=401, body=body, content_type="text/html", charset="utf-8")


def _address(host: str, port: int) -> str | None:
    """The base URL of a bind address; None for a wildcard, which nobody can ask."""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_unspecified:
            return None
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
