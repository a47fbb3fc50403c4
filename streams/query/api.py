"""The queries: who owns the key, and what does its owner say. Reads only.

A worker answers for the readers of its own partitions. For others it redirects (307) to the owner, whose address the
consumer group tells; where nobody owns the partition, or its state is still being read back, the answer is 503 with the
partition. A redirected question carries `routed=1` and is not sent on again: during a rebalance two workers may take
each other for the owner. Items are on every worker that runs `clicks`; labels on every one that runs media.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
from aiohttp import web

from streams.clock import Clock
from streams.errors import Retry
from streams.feed.records import partition_of
from streams.observe.guard import problem
from streams.query.answers import AssetLabels, Staleness
from streams.query.latest import LatestLabels
from streams.query.openapi import document
from streams.query.readers import Shelf, explanation, neighbours, reader_list, reader_vector
from streams.query.served import Served
from streams.settings import Settings
from streams.topology.manifests import shown
from streams.topology.topics import CLICKS, LABELS, prefixed
from streams.transport.directory import Directory

CLICKS_AGENT = "clicks"
LONGEST_KEY = 256
ROUTED = "routed"
RETRY_AFTER_S = "1"
_encode = msgspec.json.Encoder().encode
Of = Callable[[Shelf, str, int, Staleness], Any]


class QueryApi:
    """The routes. `served` are the agents of this worker by name; `address` is how others reach this port."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        version: str,
        served: Mapping[str, Served],
        directory: Directory,
        labels: LatestLabels,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._served = served
        self._directory = directory
        self._labels = labels
        self._document = msgspec.json.encode(document(version))
        self.address: str | None = None

    def routes(self) -> list[web.RouteDef]:
        """For the port."""
        return [
            web.get("/openapi.json", self._openapi),
            web.get("/users/{user}/recommendations", self._about_reader(reader_list)),
            web.get("/users/{user}/vector", self._about_reader(reader_vector)),
            web.get("/users/{user}/explain", self._about_reader(explanation)),
            web.get("/items/{item}/neighbours", self._neighbours),
            web.get("/labels/{asset}", self._labels_of),
        ]

    # -- readers

    def _about_reader(self, of: Of) -> Callable[[web.Request], Any]:
        async def handler(request: web.Request) -> web.Response:
            user = request.match_info["user"]
            return _bad_key(user) or await self._reader(request, user, of)

        return handler

    async def _reader(self, request: web.Request, user: str, of: Of) -> web.Response:
        partition = self.partition(user)
        if not self.owns(partition):
            return await self._elsewhere(request, partition)
        if (answer := self.about(user, of)) is not None:
            return _answer(answer)
        standing = self._served[CLICKS_AGENT].reader.standing(partition)
        if standing is None or not standing.open:
            return _unavailable(partition, "its state is still being read back")
        return problem(404, "Not Found", "no event of this reader was seen, or all was forgotten")

    def partition(self, user: str) -> int:
        """The partition that holds a reader."""
        return partition_of(user.encode(), self._settings.topics.partitions)

    def owns(self, partition: int) -> bool:
        """Whether this worker owns a partition of the readers."""
        served = self._served.get(CLICKS_AGENT)
        return served is not None and served.reader.standing(partition) is not None

    def about(self, user: str, of: Of) -> Any | None:
        """`of` about a reader of this worker; None when there is nothing to tell, now or ever."""
        partition, shelf = self.partition(user), self._shelf()
        served = self._served.get(CLICKS_AGENT)
        standing = served.reader.standing(partition) if served is not None else None
        if served is None or shelf is None or standing is None or not standing.open:
            return None
        row = shelf.rows.find(user, partition)
        if row is None or shelf.rows.fence[row] < 0:
            return None
        return of(shelf, user, row, served.staleness(partition, self._clock))

    def recent_readers(self, most: int) -> list[str]:
        """Readers of this worker with the newest events."""
        shelf = self._shelf()
        if shelf is None or not len(shelf.rows):
            return []
        newest = shelf.rows.newest_at_ms
        some = np.argpartition(-newest, min(most, len(newest) - 1))[:most]
        chosen = some[np.argsort(-newest[some], kind="stable")].tolist()
        return [name for row in chosen if row < len(shelf.rows.names) and (name := shelf.rows.names[row])]

    async def owner(self, partition: int) -> str | None:
        """The address of the worker that holds a partition of the readers, but for this one's own. Raises Retry."""
        kafka = self._settings.kafka
        group, topic = f"{kafka.group}.{CLICKS_AGENT}", prefixed(kafka.topic_prefix, CLICKS)
        address = await self._directory.owner(group, topic, partition)
        return None if address == self.address else address

    async def _elsewhere(self, request: web.Request, partition: int) -> web.Response:
        if ROUTED in request.query:
            return _unavailable(partition, "it has just moved")
        try:
            address = await self.owner(partition)
        except Retry as error:
            return _unavailable(partition, str(error))
        if address is None:
            return _unavailable(partition, "no worker that tells its address owns it at this moment")
        url = f"{address}{request.rel_url.raw_path}?{ROUTED}=1"
        answer = problem(307, "Temporary Redirect", "the owner of the partition answers", partition)
        answer.headers["Location"] = url
        return answer

    def _shelf(self) -> Shelf | None:
        served = self._served.get(CLICKS_AGENT)
        shelf = getattr(served.agent, "shelf", None) if served is not None else None
        return shelf() if shelf is not None else None

    # -- items, labels, the document

    async def _neighbours(self, request: web.Request) -> web.Response:
        item = request.match_info["item"]
        if (bad := _bad_key(item)) is not None:
            return bad
        shelf = self._shelf()
        if shelf is None:
            return problem(
                503, "Service Unavailable", "this worker runs no `clicks` agent; ask one that does"
            )
        found = neighbours(shelf, item, self._served[CLICKS_AGENT].staleness(None, self._clock))
        if found is None:
            return problem(404, "Not Found", "nothing was learnt about this item yet")
        return _answer(found)

    async def _labels_of(self, request: web.Request) -> web.Response:
        asset = request.match_info["asset"]
        if (bad := _bad_key(asset)) is not None:
            return bad
        if not self._settings.observe.labels_kept or LABELS not in shown(self._served):
            return problem(
                503, "Service Unavailable", "this worker keeps no labels; ask one that runs media agents"
            )
        found = self._labels.of(asset)
        if not found:
            return problem(
                404, "Not Found", "no label of this asset is among the newest that this worker keeps"
            )
        newest = self._labels.newest_at_ms
        age_s = None if newest is None else round(max(0.0, (self._clock.wall_ms() - newest) / 1000), 3)
        return _answer(AssetLabels(asset, found, Staleness(None, None, age_s, None, None)))

    async def _openapi(self, _: web.Request) -> web.Response:
        return web.Response(body=self._document, content_type="application/json")


def _bad_key(key: str) -> web.Response | None:
    if 1 <= len(key) <= LONGEST_KEY:
        try:
            key.encode()
        except UnicodeEncodeError:
            return problem(400, "Bad Request", "the key is not valid UTF-8")
        return None
    return problem(400, "Bad Request", f"a key has 1 to {LONGEST_KEY} characters")


def _answer(answer: Any) -> web.Response:
    return web.Response(body=_encode(answer), content_type="application/json")


def _unavailable(partition: int, detail: str) -> web.Response:
    return problem(
        503,
        "Service Unavailable",
        f"partition {partition} of the readers: {detail}",
        partition,
        {"Retry-After": RETRY_AFTER_S},
    )
