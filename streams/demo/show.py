"""A round of the demo: the feed, the outputs, the worker's numbers and the view, as tasks that end together."""

import asyncio
import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from rich.console import Console
from rich.live import Live

from streams.clock import Clock
from streams.demo.board import Board, live_view, plain_lines
from streams.demo.broker import EmbeddedBroker
from streams.demo.feed import Crowd, media
from streams.demo.server import ServerProcess
from streams.errors import HeadraceError
from streams.events import Item, Label, Recommendation
from streams.feed.player import Player
from streams.feed.records import outgoing
from streams.feed.tail import reading
from streams.observe.scrape import samples
from streams.settings import Settings
from streams.topology import admin
from streams.topology.topics import INPUTS, LABELS, RECOMMENDATIONS

LOG_LINES_SHOWN = 8
WATCHED = 4
TICK_S = 0.05
VIEW_EVERY_S = 0.5
LINES_EVERY_S = 5.0
MEDIA_EVERY_S = 1.0
FULL_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asked for."""

    seconds: float | None = None
    readers: int = 200
    rate: float = 40.0
    seed: int = 1
    port: int = 0
    bootstrap: str | None = None
    with_media: bool = True
    as_json: bool = False


class Show:
    """The running demo: feed, outputs, metrics and view as tasks that end together."""

    def __init__(
        self,
        settings: Settings,
        options: Options,
        clock: Clock,
        started_s: float,
        items: list[Item],
        player: Player,
        process: ServerProcess,
        log: Path,
        broker: EmbeddedBroker | None,
    ) -> None:
        run = f"demo-{options.seed}-{clock.wall_ms()}"
        self._settings = settings
        self._options = options
        self._clock = clock
        self._started_s = started_s
        self._player = player
        self._process = process
        self._log = log
        self._broker = broker  # None: somebody else's
        self.left_s = options.seconds
        """Of the feed, after this round; None: for ever."""
        self._crowd = Crowd(items, options.readers, options.seed, run)
        self._media = media(options.seed, run)
        watched = [reader.user for reader in self._crowd.readers[:WATCHED]]
        self._board = Board(items, watched)

    async def until(self, stop: asyncio.Event) -> bool:
        """Run until `stop`, the end of the time, or the broker is full; whether it was that. Raises HeadraceError when
        the worker has ended."""
        began_s = self._clock.monotonic_s()
        full = asyncio.create_task(self._full())
        works = (self._feed(), self._outputs(), self._metrics(), self._view(), stop.wait())
        tasks: list[asyncio.Task[Any]] = [full, *map(asyncio.ensure_future, works)]
        try:
            await asyncio.wait(tasks, timeout=self.left_s, return_when=asyncio.FIRST_COMPLETED)
            if self.left_s is not None:
                self.left_s = max(0.0, self.left_s - (self._clock.monotonic_s() - began_s))
            for task in tasks:
                if task.done():
                    task.result()
            return full.done() and not stop.is_set()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _full(self) -> None:
        """Return when the embedded broker has as much memory as it may."""
        limit_mb = self._settings.demo.broker_memory_mb
        while True:
            if self._broker is not None and (self._broker.memory_mb or 0) >= limit_mb:
                return
            await asyncio.sleep(FULL_EVERY_S)

    async def _feed(self) -> None:
        """Clicks at a steady rate and one asset a second, each stamped with the present."""
        start_s = self._clock.monotonic_s()
        clicks = assets = 0
        while True:
            elapsed_s = self._clock.monotonic_s() - start_s
            now_ms = self._clock.wall_ms()
            due = []
            while clicks < elapsed_s * self._options.rate:
                due.append(outgoing(self._crowd.click(now_ms), source="headrace/demo"))
                clicks += 1
            while self._options.with_media and assets < elapsed_s / MEDIA_EVERY_S:
                asset = next(self._media)
                asset.at = now_ms
                due.append(outgoing(asset, source="headrace/demo"))
                assets += 1
            self._board.sent = {**dict.fromkeys(INPUTS, 0), **(await self._player.send(due)).sent}
            await asyncio.sleep(TICK_S)

    async def _outputs(self) -> None:
        """Everything published since the start."""
        counts = await admin.require_topics(self._settings, (RECOMMENDATIONS, LABELS))
        recommendation = msgspec.json.Decoder(Recommendation).decode
        label = msgspec.json.Decoder(Label).decode
        async with reading(self._settings, counts) as (consumer, _):
            while True:
                for partition, records in (await consumer.getmany(timeout_ms=200)).items():
                    now_s = self._clock.monotonic_s() - self._started_s
                    for record in records:
                        if record.value is None:
                            continue
                        if partition.topic.endswith(LABELS):
                            self._board.label(label(record.value), now_s)
                        else:
                            self._board.recommendation(recommendation(record.value), now_s)

    async def _metrics(self) -> None:
        """The worker's own pages, once a second."""
        url = f"http://127.0.0.1:{self._settings.observe.port}"
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2.0)) as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError, asyncio.TimeoutError):  # busy: next second
                    async with session.get(f"{url}/metrics") as answer:
                        page = await answer.text()
                    self._board.metrics(
                        (sample.name, sample.labels, sample.value) for sample in samples(page)
                    )
                    async with session.get(f"{url}/readyz") as answer:
                        self._board.ready = answer.status == 200
                await asyncio.sleep(1.0)

    async def _view(self) -> None:
        console = Console()
        where = f"broker {self._settings.kafka.bootstrap} · live page http://127.0.0.1:{self._settings.observe.port}/"
        if self._options.as_json or not console.is_terminal:
            await self._lines()
        with Live(console=console, auto_refresh=False) as live:
            while True:
                live.update(live_view(self._shot(), where), refresh=True)
                await asyncio.sleep(VIEW_EVERY_S)

    async def _lines(self) -> None:
        while True:
            shot = self._shot()
            lines = [msgspec.json.encode(shot).decode()] if self._options.as_json else plain_lines(shot)
            sys.stdout.write("\n".join(lines) + "\n")
            sys.stdout.flush()
            await asyncio.sleep(1.0 if self._options.as_json else LINES_EVERY_S)

    def _shot(self) -> dict[str, Any]:
        if not self._process.running:
            raise HeadraceError(
                f"the worker has ended by itself; the end of its log, {self._log}:{_last_lines(self._log)}"
            )
        self._board.tastes = {reader.user: reader.tastes for reader in self._crowd.readers[:WATCHED]}
        return self._board.snapshot(self._clock.monotonic_s() - self._started_s)


def _last_lines(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - 4096, 0))
        lines = file.read().decode("utf-8", "replace").splitlines()[-LOG_LINES_SHOWN:]
    return "".join(f"\n    {line}" for line in lines)
