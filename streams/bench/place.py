"""Where things run: contenders as processes of their own on one core, the broker and the feed on another."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streams.demo import launch
from streams.demo.broker import EmbeddedBroker
from streams.demo.kafka import KafkaBroker, jars, java_program
from streams.errors import Fatal, UserMistake
from streams.sections.worker import Demo
from streams.settings import kafka_lib

ROOT = Path(__file__).resolve().parents[2]  # where `streams` lies: children import the same code
STOP_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Cores:
    """Core numbers; empty sets pin nothing (one core, or a system without pinning)."""

    contender: frozenset[int]
    broker: frozenset[int]

    @classmethod
    def of_machine(cls) -> "Cores":
        allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        if len(allowed) < 2:
            return cls(frozenset(), frozenset())
        return cls(frozenset(allowed[:1]), frozenset(allowed[1:2]))


@dataclass(frozen=True, slots=True)
class Place:
    """A running broker, and the cores."""

    bootstrap: str
    lane: str
    cores: Cores

    def described(self) -> dict[str, Any]:
        name = "Apache Kafka (one node)" if self.lane == "kafka" else "Tansu (memory)"
        pinned = {"contender_core": [*self.cores.contender], "broker_core": [*self.cores.broker]}
        return {"broker": name, "lane": self.lane, **(pinned if self.cores.contender else {})}


def lane_of(named: str | None) -> str:
    """The broker to use: the named one, else the real Kafka where its jars and a JDK are. Raises UserMistake."""
    if named not in (None, "kafka", "embedded"):
        raise UserMistake(f"--broker {named}: there are kafka and embedded")
    if named is not None:
        return named
    return "embedded" if kafka_lib() is None else "kafka"


@contextlib.contextmanager
def running_place(lane: str, demo: Demo) -> Iterator[Place]:
    """Start the broker on its core, and keep this process (the feed) there too.

    Raises EnvironmentProblem: no jars, no JDK, no binary.
    """
    cores = Cores.of_machine()
    broker: KafkaBroker | EmbeddedBroker
    if lane == "kafka":
        lib = kafka_lib()
        java_program()
        jars(lib)
        assert lib is not None  # jars() has said so
        broker = KafkaBroker(
            lib, cpus=cores.broker, properties={"log.retention.check.interval.ms": "3600000"}
        )
    else:
        broker = EmbeddedBroker(binary=demo.broker_binary)
    with broker, _kept_on(cores.broker):
        if isinstance(broker, EmbeddedBroker) and broker.pid is not None:
            _pin_all_threads(broker.pid, cores.broker)
        yield Place(broker.bootstrap, lane, cores)


@contextlib.contextmanager
def _kept_on(cores: frozenset[int]) -> Iterator[None]:
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _pin_all_threads(pid: int, cores: frozenset[int]) -> None:
    """Threads that are there already keep their own cores; new ones inherit."""
    if cores:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
                os.sched_setaffinity(int(thread.name), cores)


class Child:
    """A Python process pinned before it starts; its standard error goes to a file, shown when it fails."""

    def __init__(self, name: str, arguments: list[str], cores: frozenset[int]) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        pinned = ",".join(map(str, sorted(cores))) or "-"
        launcher = [sys.executable, "-I", "-S", str(Path(launch.__file__)), str(os.getpid()), pinned]
        self._process = subprocess.Popen(
            [*launcher, sys.executable, "-m", *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()

    @property
    def cpu_s(self) -> float:
        """Processor seconds used so far, to 10 ms."""
        fields = (
            Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        )
        return (int(fields[11]) + int(fields[12])) / float(os.sysconf("SC_CLK_TCK"))

    @property
    def rss_mb(self) -> float:
        """Resident memory now."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii").split()[1])
        return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)

    def check(self) -> None:
        """Raises Fatal when it ended by itself."""
        if self._process.poll() is not None:
            raise Fatal(f"{self.name} ended with {self._process.returncode}{self._tail()}")

    def answer(self, within_s: float) -> dict[str, Any]:
        """Wait for its end; the JSON object on its last line. Raises Fatal."""
        try:
            out, _ = self._process.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            raise Fatal(f"{self.name} did not end within {within_s:g} s{self._tail()}") from None
        lines = out.decode("utf-8", "replace").strip().splitlines()
        if self._process.returncode or not lines:
            raise Fatal(f"{self.name} ended with {self._process.returncode}{self._tail()}")
        answer = json.loads(lines[-1])
        assert isinstance(answer, dict)
        return answer

    def stop(self) -> None:
        """SIGTERM, and wait; SIGKILL when that takes too long."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _tail(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read()[-16_384:].decode("utf-8", "replace").splitlines()[-20:]
        return ":\n" + "\n".join(f"    {line}" for line in lines) if lines else ""


def contend(
    place: Place, contender: str, arguments: Mapping[str, Any], within_s: float, name: str
) -> dict[str, Any]:
    """Run one contender (`module:function`) to its end on its core; what it measured. Raises Fatal."""
    with Child(
        name, ["streams.bench.child", contender, json.dumps(dict(arguments))], place.cores.contender
    ) as child:
        return child.answer(within_s)
