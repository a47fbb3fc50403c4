"""The stage of `played.py`: topics under a fresh prefix, one worker process, the feed command, and what topics hold."""

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from streams.demo.server import ServerProcess, free_ports
from streams.settings import Settings, load
from streams.topology import admin

READY_WITHIN_S = 180.0
STOP_WITHIN_S = 30.0
POLL_S = 0.1


class Stage:
    """One prefix on one broker. `agents` run in one worker of its own process."""

    def __init__(self, bootstrap: str, name: str, agents: str, folder: Path) -> None:
        self.agents = agents.split(",")
        self._port = free_ports(1)[0]
        self._config = folder / f"{name}.toml"
        self._log = folder / f"{name}.log"
        # As `headrace demo` does: Tansu lets the first member of a group wait for half the session timeout.
        self._config.write_text(
            f'[kafka]\nbootstrap = "{bootstrap}"\ntopic_prefix = "{name}."\ngroup = "{name}"\n'
            f"session_timeout_s = 6\nheartbeat_interval_s = 2\n"
            f"[worker]\nagents = {json.dumps(self.agents)}\n[observe]\nport = {self._port}\n"
        )
        self.settings: Settings = load(self._config)
        asyncio.run(admin.apply(self.settings))

    @contextlib.contextmanager
    def worker(self) -> Iterator[float]:
        """A worker, ready; gives the seconds that took. Raises RuntimeError if it does not end with 0."""
        process = ServerProcess("the worker", [*self._command(), "worker"], self._log)
        began = time.monotonic()
        process.start(self._ready, READY_WITHIN_S)
        try:
            yield time.monotonic() - began
            if not process.running:
                raise RuntimeError(f"the worker ended by itself:\n{self._log.read_text()[-3000:]}")
        finally:
            code = process.stop(STOP_WITHIN_S)
        if code != 0:
            raise RuntimeError(f"the worker ended with {code}:\n{self._log.read_text()[-3000:]}")

    def feed(self, *arguments: str) -> dict[str, Any]:
        """`headrace feed` as a user types it; its JSON."""
        done = subprocess.run(
            [*self._command(), "feed", *arguments, "--json"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"headrace feed ended with {done.returncode}: {done.stderr}")
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def metric(self, name: str, agent: str) -> float:
        """The sum of a metric of one agent over its other labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=10) as answer:
            page = answer.read().decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name == name and sample.labels.get("agent") == agent
        )

    def settle(self, agent: str, records: int, within_s: float) -> float:
        """Wait until the agent has read so many records and its lag is 0; gives the seconds that took."""
        began = time.monotonic()

        def settled() -> bool:
            read = self.metric("headrace_records_total", agent)
            return read >= records and self.metric("headrace_consumer_lag_records", agent) == 0

        _until(settled, within_s, f"{agent} has worked through {records} records")
        return time.monotonic() - began

    @contextlib.contextmanager
    def watching(self, agent: str) -> Iterator[list[float]]:
        """The agent's lag in records, looked at once a second while the block runs."""
        seen: list[float] = []
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(1.0):
                seen.append(self.metric("headrace_consumer_lag_records", agent))

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield seen
        finally:
            stop.set()
            thread.join()

    def read(self, topic: str) -> list[Any]:
        """Every record of a topic now, in order per partition."""
        from streams.feed.tail import records

        async def all_of_it() -> list[Any]:
            count = self.settings.topics.partitions
            found = records(self.settings, topic, count, from_beginning=True, follow=False)
            return [record async for record in found]

        return asyncio.run(all_of_it())

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "streams", "--config", str(self._config)]

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/readyz", timeout=1.0) as answer:
                return bool(answer.status == 200)
        except (urllib.error.HTTPError, OSError):
            return False


def _until(condition: Callable[[], bool], within_s: float, what: str) -> None:
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {within_s:g} s: {what}")
        time.sleep(POLL_S)
