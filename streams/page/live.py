"""The live page: its files, its one stream of server-sent events, and what a person may do on it.

Everything is sent as JSON and written into the page as text. A page gets `hello` (all there is), then `tick` once a
second (numbers that changed, the newest of everything), and `reader` whenever the reader it looks at has moved.
"""

import asyncio
import hmac
import logging
import secrets
import socket
import uuid
from collections import deque
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import msgspec
from aiohttp import web

from streams.clock import Clock
from streams.errors import Retry
from streams.events import Click, Label
from streams.observe.catalogue import Metrics
from streams.observe.guard import problem
from streams.page.flow import flow
from streams.page.hub import Client, Hub, message
from streams.page.media import LabelledMedia
from streams.page.numbers import PERIOD_S, Numbers
from streams.page.readers import Readers
from streams.page.send import ClickSender
from streams.page.workers import Workers
from streams.query.latest import LatestLabels, LatestLetters
from streams.query.served import Served
from streams.settings import Settings

log = logging.getLogger(__name__)

READER_S = 0.25  # how often a reader who is looked at is looked up
REMOTE_TURNS = 4  # on another worker: every so many times
WALL = 60  # labels on the wall
LETTERS = 30
WORKERS_S = 5
SEND_BUFFER_BYTES = 64 << 10
KINDS = ("click", "like", "save", "skip", "hide")
CLICK_BYTES = 4_096
FILES = {
    "/": ("index.html", "text/html"),
    **{
        f"/page/{name}": (name, "text/javascript")
        for name in ("app.js", "dom.js", "charts.js", "flow.js", "reader.js", "wall.js")
    },
    "/page/page.css": ("page.css", "text/css"),
    "/page/icon.svg": ("icon.svg", "image/svg+xml"),
}
_encode = msgspec.json.Encoder().encode


class LivePage:
    """Built with what it shows; `routes` go to the port; `run` is awaited until the worker ends."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        metrics: Metrics,
        version: str,
        served: Mapping[str, Served],
        readers: Readers,
        labels: LatestLabels,
        letters: LatestLetters,
        workers: Workers,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._version = version
        self._readers = readers
        self._labels = labels
        self._letters = letters
        self._workers = workers
        self._hub = Hub(settings.observe.clients)
        self._numbers = Numbers(metrics, tuple(served))
        self._flow = flow({name: one.agent.topic for name, one in served.items()})
        self._media = LabelledMedia(settings)
        self._clicks = ClickSender(settings, clock) if settings.observe.clicks else None
        self._csrf = secrets.token_urlsafe(24)
        self._new_labels: deque[Label] = deque(maxlen=WALL)
        self._letters_sent = 0
        self._dropped = 0
        self._shown: dict[str, float] = {}
        self._made: tuple[int, bytes] | None = None
        self._files = {path: (_read(name), kind) for path, (name, kind) in FILES.items()}

    def routes(self) -> list[web.RouteDef]:
        """For the port."""
        return [
            *(web.get(path, self._file) for path in self._files),
            web.get("/events", self._events, allow_head=False),
            web.get("/page/readers/{user}", self._reader),
            web.get("/page/media/{label}", self._medium),
            web.post("/page/click", self._click),
        ]

    def labelled(self, label: Label) -> None:
        """A label has been published by some worker."""
        self._new_labels.append(label)

    # -- what runs

    async def run(self) -> None:
        """Read the numbers and send what is new, until cancelled."""
        beside = asyncio.gather(self._follow_readers(), self._follow_workers())
        try:
            while not beside.done():
                self._metrics.pages.set(len(self._hub))
                self._metrics.pages_dropped.inc(self._hub.dropped - self._dropped)
                self._dropped = self._hub.dropped
                chart = self._numbers.take(self._clock.monotonic_s(), self._clock.wall_ms())
                self._tick(chart)
                await asyncio.sleep(PERIOD_S)
            await beside
        finally:
            beside.cancel()

    def _tick(self, chart: dict[str, float | None]) -> None:
        shown = self._numbers.shown()
        changed = {name: value for name, value in shown.items() if self._shown.get(name) != value}
        self._shown = shown
        labels, self._new_labels = self._new_labels, deque(maxlen=WALL)
        if not len(self._hub):
            return
        tick: dict[str, Any] = {
            "at": self._numbers.newest.at_ms,
            "chart": chart,
            "numbers": changed,
            "rates": self._numbers.rates(),
            "health": self._numbers.health(),
            "labels": [_label(label) for label in labels],
            "workers": self._workers.rows(),
            "readers": self._readers.recent(),
        }
        if self._letters.seen != self._letters_sent:
            self._letters_sent = self._letters.seen
            tick["letters"] = self._letters.newest()[:LETTERS]
        self._hub.send(message("tick", _encode(tick)))

    def _hello(self) -> bytes:
        """Made once a tick, however many pages open within it."""
        if self._made is None or self._made[0] != self._numbers.newest.at_ms:
            self._made = (self._numbers.newest.at_ms, self._new_hello())
        return self._made[1]

    def _new_hello(self) -> bytes:
        newest = []
        for label in self._labels.newest():
            newest.append(label)
            if len(newest) == WALL:
                break
        return message(
            "hello",
            _encode(
                {
                    "version": self._version,
                    "csrf": self._csrf if self._clicks is not None else None,
                    "kinds": KINDS,
                    "flow": self._flow,
                    "history": self._numbers.history(),
                    "numbers": self._numbers.shown(),
                    "rates": self._numbers.rates(),
                    "health": self._numbers.health(),
                    "labels": [_label(label) for label in reversed(newest)],
                    "letters": self._letters.newest()[:LETTERS],
                    "workers": self._workers.rows(),
                    "readers": self._readers.recent(),
                }
            ),
        )

    async def _follow_readers(self) -> None:
        turn = 0
        last: dict[str, bytes] = {}
        while True:
            turn += 1
            users = self._readers.keep(self._hub.readers())
            pictures = [self._readers.changed(user) for user in users if self._readers.local(user)]
            if turn % REMOTE_TURNS == 0:
                far = [self._readers.remote(user) for user in users if not self._readers.local(user)]
                pictures += await asyncio.gather(*far)
            for picture in pictures:
                if picture is None:
                    continue
                user, data = picture["user"], message("reader", _encode(picture))
                if last.get(user) != data:
                    last[user] = data
                    self._hub.send(data, user)
            for user in last.keys() - self._hub.readers():
                del last[user]
            await asyncio.sleep(READER_S)

    async def _follow_workers(self) -> None:
        while True:
            if len(self._hub):
                await self._workers.refresh()
            await asyncio.sleep(WORKERS_S)

    async def stop(self) -> None:
        """End the streams, so that the port can close, and the connections."""
        self._hub.close()
        await self._media.stop()
        if self._clicks is not None:
            await self._clicks.stop()

    # -- what is asked

    async def _file(self, request: web.Request) -> web.Response:
        body, kind = self._files[request.path]
        return web.Response(body=body, content_type=kind, charset="utf-8")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        reader = request.query.get("reader") or None
        if reader is not None and (len(reader) > 256 or not reader.isprintable()):
            return problem(400, "Bad Request", "a reader's name has at most 256 characters")
        transport = request.transport
        if transport is None:
            return problem(400, "Bad Request", "the connection is gone")
        client = Client(reader, transport.abort)
        if not self._hub.join(client):
            return problem(503, "Service Unavailable", "as many pages are open as this worker serves")
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        )
        try:
            _bound(transport)
            await response.prepare(request)
            self._numbers_ready()
            await response.write(b"retry: 1000\n\n" + self._hello())
            if reader is not None and self._readers.local(reader):
                await response.write(message("reader", _encode(self._readers.picture(reader))))
            while (data := await client.waiting.get()) is not None:
                await response.write(data)
        except (ConnectionError, asyncio.CancelledError):
            pass  # it closed the page, or was too slow
        finally:
            self._hub.leave(client)
        return response

    def _numbers_ready(self) -> None:
        if not self._numbers.charts:
            self._numbers.take(self._clock.monotonic_s(), self._clock.wall_ms())

    async def _reader(self, request: web.Request) -> web.Response:
        """Asked by other workers, for a page of theirs."""
        user = request.match_info["user"]
        if len(user) > 256 or not self._readers.local(user):
            return problem(404, "Not Found", "not a reader of this worker")
        return web.Response(body=_encode(self._readers.picture(user)), content_type="application/json")

    async def _medium(self, request: web.Request) -> web.Response:
        label = self._labels.by_id(request.match_info["label"])
        try:
            medium = await self._media.of(label) if label is not None else None
        except Retry as error:
            return problem(503, "Service Unavailable", str(error))
        if medium is None:
            return problem(404, "Not Found", "it is no longer there, or nothing that can be shown")
        return _ranged(request, medium.data, medium.content_type)

    async def _click(self, request: web.Request) -> web.Response:
        if self._clicks is None:
            return problem(
                403, "Forbidden", "observe.clicks is off: the page does not click for real readers"
            )
        if not hmac.compare_digest(request.headers.get("X-Headrace-Csrf", "").encode(), self._csrf.encode()):
            return problem(403, "Forbidden", "the page was opened before this worker started: load it again")
        if request.content_type != "application/json" or (request.content_length or 0) > CLICK_BYTES:
            return problem(400, "Bad Request", "a small JSON object is expected")
        try:
            asked = msgspec.json.decode(await request.content.read(CLICK_BYTES), type=dict[str, str])
            click = msgspec.convert(
                {
                    "id": f"page-{uuid.uuid4()}",
                    "user": asked.get("user"),
                    "item": asked.get("item"),
                    "kind": asked.get("kind") if asked.get("kind") in KINDS else None,
                    "at": self._clock.wall_ms(),
                    "source": "page",
                },
                Click,
            )
        except msgspec.MsgspecError as error:
            return problem(400, "Bad Request", str(error))
        try:
            if not await self._clicks.send(click):
                return problem(429, "Too Many Requests", "not so fast", headers={"Retry-After": "1"})
        except Retry as error:
            return problem(503, "Service Unavailable", str(error))
        self._metrics.page_clicks.inc()
        return web.json_response({"id": click.id}, status=202)


def _read(name: str) -> bytes:
    return files("streams.page").joinpath("static", name).read_bytes()


def _label(label: Label) -> dict[str, Any]:
    """What the wall shows of a label."""
    return {
        "id": label.id,
        "asset": label.asset,
        "task": label.task,
        "at": label.at,
        "model": label.model.name,
        "revision": label.model.revision,
        "value": label.value,
        "score": label.score,
        "spans": [[span.start, span.end, span.value] for span in label.spans[:200]],
    }


def _bound(transport: asyncio.Transport) -> None:
    """Let little wait for a page that does not read: its own buffer and the kernel's."""
    transport.set_write_buffer_limits(high=SEND_BUFFER_BYTES)
    link = transport.get_extra_info("socket")
    if link is not None:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)


def _ranged(request: web.Request, data: bytes, content_type: str) -> web.Response:
    """All of it, or the one range that is asked for: players seek by ranges."""
    headers = {"Accept-Ranges": "bytes", "Content-Type": content_type, "Content-Security-Policy": "sandbox"}
    try:
        asked = request.http_range
    except ValueError:
        return problem(
            416, "Range Not Satisfiable", "not a range", headers={"Content-Range": f"bytes */{len(data)}"}
        )
    start, stop, _ = slice(asked.start, asked.stop).indices(len(data))
    if asked.start is None and asked.stop is None:
        return web.Response(body=data, headers=headers)
    if start >= stop:
        return problem(
            416, "Range Not Satisfiable", "beyond it", headers={"Content-Range": f"bytes */{len(data)}"}
        )
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
    return web.Response(body=data[start:stop], status=206, headers=headers)
