"""`headrace demo`: broker, topics, one worker as a child, the feed, and the view, until it is told to stop."""

import asyncio
import contextlib
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from rich.console import Console
from rich.live import Live

from streams.cli.context import Given
from streams.clock import Clock
from streams.demo.board import Board, live_view, plain_lines
from streams.demo.broker import EmbeddedBroker
from streams.demo.feed import Crowd, catalogue, media
from streams.demo.server import ServerProcess, check_free, free_ports
from streams.errors import EnvironmentProblem, HeadraceError, Retry
from streams.events import Item, Label, Recommendation
from streams.feed.player import Player
from streams.feed.records import outgoing
from streams.feed.tail import reading
from streams.observe.scrape import samples
from streams.settings import Settings, origins
from streams.topology import admin
from streams.topology.topics import INPUTS, LABELS, RECOMMENDATIONS
from streams.transport.producer import BatchProducer

FOLDER = Path(".headrace")
LOG = "worker.log"
WORKER_STARTS_WITHIN_S = 60.0
LOG_LINES_SHOWN = 8
WATCHED = 4
TICK_S = 0.05
VIEW_EVERY_S = 0.5
LINES_EVERY_S = 5.0
MEDIA_EVERY_S = 1.0
EXTRA_GRACE_S = 2.0


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


class _Stopped(Exception):
    """Ctrl-C while something was still starting."""


@dataclass(slots=True)
class _Ended:
    """How the worker ended, once it has."""

    code: int | None = None
    seconds: float = 0.0


async def run_demo(given: Given, options: Options, clock: Clock, say: Callable[[str], None]) -> int:
    """Run until Ctrl-C, SIGTERM or `options.seconds` of feed. Returns 0, or 1 when the worker failed.

    `say` takes lines for people. Raises EnvironmentProblem: no broker, a port in use, a worker that
    does not start.
    """
    given.settings()  # a wrong setting shows before anything starts
    started_s = clock.monotonic_s()
    ended = _Ended()
    with _stopping() as stop, contextlib.ExitStack() as stack:
        bootstrap = options.bootstrap
        if bootstrap is None:
            binary = given.settings().demo.broker_binary
            broker = stack.enter_context(EmbeddedBroker(port=options.port, binary=binary))
            bootstrap = broker.bootstrap
            say(f"embedded broker on {bootstrap}")
        given = _for_demo(given, bootstrap, options)
        settings = given.settings()
        created, _ = await admin.apply(settings)
        say(f"topics: {len(created)} created")
        items = catalogue(clock.wall_ms())
        try:
            async with _player(settings, clock) as player:
                await player.send(outgoing(item, source="headrace/demo") for item in items)
                async with _worker(given, settings, clock, stop, say, ended) as process:
                    show = _Show(settings, options, clock, started_s, items, player, process)
                    await show.until(stop)
        except _Stopped:
            say("stopped while the worker was starting")
            return 0
        except Retry as error:
            raise EnvironmentProblem(f"the broker stopped taking records: {error}") from error
    broker_too = "" if options.bootstrap else "; the broker after it"
    say(f"stopped: the worker ended in {ended.seconds:.1f} s with exit code {ended.code}{broker_too}")
    return 0 if ended.code == 0 else 1


def _for_demo(given: Given, bootstrap: str, options: Options) -> Given:
    """The user's settings, with what a demo on one machine wants where the user said nothing."""
    said = origins(given.config, given.overrides())
    wanted = {"kafka.bootstrap": bootstrap}
    if not said.keys() & {"kafka.session_timeout_s", "kafka.heartbeat_interval_s"}:
        # Tansu lets the first member of a group wait for half the session timeout.
        wanted |= {"kafka.session_timeout_s": "6", "kafka.heartbeat_interval_s": "2"}
    if not options.with_media and "worker.agents" not in said:
        wanted["worker.agents"] = "clicks,items,privacy"
    port = given.settings().observe.port
    if "observe.port" not in said and port != 0:
        try:
            check_free(port, "")
        except EnvironmentProblem:
            port = 0
    if port == 0:  # the view must know it
        port = free_ports(1)[0]
    wanted["observe.port"] = str(port)
    if "observe.clicks" not in said:
        wanted["observe.clicks"] = "true"
    return replace(given, sets=(*given.sets, *(f"{name}={value}" for name, value in wanted.items())))


@contextlib.contextmanager
def _stopping() -> Iterator[asyncio.Event]:
    """An event that Ctrl-C and SIGTERM set, for as long as the block runs."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


@contextlib.asynccontextmanager
async def _player(settings: Settings, clock: Clock) -> AsyncIterator[Player]:
    partitions = await admin.require_topics(settings, INPUTS)
    producer = BatchProducer(settings.kafka)
    await producer.start()
    try:
        yield Player(producer, partitions, clock)
    finally:
        await producer.stop(settings.kafka.request_timeout_s)


@contextlib.asynccontextmanager
async def _worker(
    given: Given,
    settings: Settings,
    clock: Clock,
    stop: asyncio.Event,
    say: Callable[[str], None],
    ended: _Ended,
) -> AsyncIterator[ServerProcess]:
    """One worker with the same settings, ready when the block begins and ended when it ends."""
    log = _fresh_log()
    command = [sys.executable, "-m", "streams"]
    if given.config is not None:
        command += ["--config", str(given.config)]
    for text in given.sets:
        command += ["--set", text]
    process = ServerProcess("the worker", [*command, "worker"], log, clock=clock)
    url = f"http://127.0.0.1:{settings.observe.port}"
    say(f"worker: log in {log}, metrics on {url}/metrics")
    if settings.observe.page:
        say(f"the live page: {url}/")
    try:
        await asyncio.to_thread(process.start, lambda: _answers(url, stop), WORKER_STARTS_WITHIN_S)
        say("worker: started; clicks are read while the models are still loading")
        yield process
    finally:
        since_s = clock.monotonic_s()
        alive = process.running
        ended.code = await asyncio.to_thread(process.stop, settings.worker.grace_s + EXTRA_GRACE_S)
        ended.seconds = clock.monotonic_s() - since_s
        if not alive:
            ended.code = None


def _fresh_log() -> Path:
    FOLDER.mkdir(exist_ok=True)
    log = FOLDER / LOG
    log.unlink(missing_ok=True)
    return log


def _answers(url: str, stop: asyncio.Event) -> bool:
    """Whether the observation port is open. Not whether the worker is ready: lists need no models, so the
    feed begins before that."""
    if stop.is_set():
        raise _Stopped
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=1.0):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def _last_lines(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - 4096, 0))
        lines = file.read().decode("utf-8", "replace").splitlines()[-LOG_LINES_SHOWN:]
    return "".join(f"\n    {line}" for line in lines)


class _Show:
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
    ) -> None:
        run = f"demo-{options.seed}-{clock.wall_ms()}"
        self._settings = settings
        self._options = options
        self._clock = clock
        self._started_s = started_s
        self._player = player
        self._process = process
        self._crowd = Crowd(items, options.readers, options.seed, run)
        self._media = media(options.seed, run)
        watched = [reader.user for reader in self._crowd.readers[:WATCHED]]
        self._board = Board(items, watched)

    async def until(self, stop: asyncio.Event) -> None:
        """Run until `stop` or the end of the time. Raises HeadraceError when the worker has ended."""
        tasks = [
            asyncio.create_task(work)
            for work in (self._feed(), self._outputs(), self._metrics(), self._view(), stop.wait())
        ]
        try:
            await asyncio.wait(tasks, timeout=self._options.seconds, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

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
            log = FOLDER / LOG
            raise HeadraceError(
                f"the worker has ended by itself; the end of its log, {log}:{_last_lines(log)}"
            )
        self._board.tastes = {reader.user: reader.tastes for reader in self._crowd.readers[:WATCHED]}
        return self._board.snapshot(self._clock.monotonic_s() - self._started_s)
