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

from streams.cli.context import Given
from streams.clock import Clock
from streams.demo.broker import EmbeddedBroker
from streams.demo.feed import catalogue
from streams.demo.server import ServerProcess, check_free, free_ports
from streams.demo.show import Options, Show
from streams.errors import EnvironmentProblem, Retry
from streams.feed.player import Player
from streams.feed.records import outgoing
from streams.settings import Settings, origins
from streams.topology import admin
from streams.topology.topics import INPUTS
from streams.transport.producer import BatchProducer

FOLDER = Path(".headrace")
LOG = "worker.log"
WORKER_STARTS_WITHIN_S = 60.0
EXTRA_GRACE_S = 2.0


class _Stopped(Exception):
    """Ctrl-C while something was still starting."""


@dataclass(slots=True)
class _Ended:
    """How the worker ended, once it has."""

    code: int | None = None
    seconds: float = 0.0


async def run_demo(given: Given, options: Options, clock: Clock, say: Callable[[str], None]) -> int:
    """Run until Ctrl-C, SIGTERM or `options.seconds` of feed. Returns 0, or 1 when the worker failed. The embedded
    broker keeps every record in memory: when it has as much as `demo.broker_memory_mb`, all starts anew.

    `say` takes lines for people. Raises EnvironmentProblem: no broker, a port in use, a worker that
    does not start.
    """
    given.settings()  # a wrong setting shows before anything starts
    rounds = _Rounds(options, clock, say)
    with _stopping() as stop:
        try:
            while await rounds.play(given, stop):
                say("the embedded broker is full: starting anew, with readers that nobody knows yet")
        except _Stopped:
            say("stopped while the worker was starting")
            return 0
        except Retry as error:
            raise EnvironmentProblem(f"the broker stopped taking records: {error}") from error
    ended = rounds.ended
    broker_too = "" if options.bootstrap else "; the broker after it"
    say(f"stopped: the worker ended in {ended.seconds:.1f} s with exit code {ended.code}{broker_too}")
    return 0 if ended.code == 0 else 1


class _Rounds:
    """One demo after another on the same ports: each with a broker, topics and a worker of its own."""

    def __init__(self, options: Options, clock: Clock, say: Callable[[str], None]) -> None:
        self.ended = _Ended()  # of the last round
        self._options = options
        self._clock = clock
        self._say = say
        self._given: Given | None = None  # as the first round found its ports

    async def play(self, given: Given, stop: asyncio.Event) -> bool:
        """One round; whether it ended because the broker is full, so that another one follows."""
        options, clock, say = self._options, self._clock, self._say
        started_s = clock.monotonic_s()
        self.ended = _Ended()
        with contextlib.ExitStack() as stack:
            broker = None
            if options.bootstrap is None:
                binary = given.settings().demo.broker_binary
                broker = stack.enter_context(EmbeddedBroker(port=options.port, binary=binary))
                say(f"embedded broker on {broker.bootstrap}")
                self._options = replace(options, port=broker.port)
            if self._given is None:
                self._given = _for_demo(given, options.bootstrap or self._of(broker), options)
            settings = self._given.settings()
            created, _ = await admin.apply(settings)
            say(f"topics: {len(created)} created")
            items = catalogue(clock.wall_ms())
            async with _player(settings, clock) as player:
                await player.send(outgoing(item, source="headrace/demo") for item in items)
                async with _worker(self._given, settings, clock, stop, say, self.ended) as process:
                    show = Show(
                        settings, options, clock, started_s, items, player, process, FOLDER / LOG, broker
                    )
                    full = await show.until(stop)
        self._options = replace(self._options, seconds=show.left_s)
        return full and self.ended.code == 0

    @staticmethod
    def _of(broker: EmbeddedBroker | None) -> str:
        assert broker is not None  # there is one where nobody named another
        return broker.bootstrap


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
