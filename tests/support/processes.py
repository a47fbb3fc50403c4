"""Workers as processes of their own: started like a user starts them, told to stop, killed, and what they said."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from streams.demo.server import free_ports
from streams.settings import Settings

ROOT = Path(__file__).parents[2]


def options_of(settings: Settings) -> list[str]:
    """The command line that gives a process the settings that differ from the defaults."""
    plain = settings.model_dump(mode="json")
    defaults = Settings.model_construct().model_dump(mode="json")
    return [
        f"--set={section}.{name}={json.dumps(value) if isinstance(value, (list, dict)) else value}"
        for section, values in plain.items()
        if isinstance(values, dict)
        for name, value in values.items()
        if value != defaults[section][name]
    ]


class WorkerProcess:
    """`python -m streams worker` for the length of a `with` block. `log` is everything it printed."""

    def __init__(self, settings: Settings, log: Path, extra: Sequence[str] = ()) -> None:
        self.port = free_ports(1)[0]
        self._log = log
        self._command = [
            sys.executable,
            "-m",
            "streams",
            "worker",
            *options_of(settings),
            f"--set=observe.port={self.port}",
            *extra,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "WorkerProcess":
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
        environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._log.parent, env=environment, stdout=log, stderr=log
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child.poll() is None:
            self._child.kill()
            self._child.wait()

    @property
    def _child(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None
        return self._process

    @property
    def said(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def wait_until(
        self, condition: Callable[[], bool], within_s: float, what: str, every_s: float = 0.1
    ) -> None:
        """Fails, with what the process said, when it ends or takes longer."""
        until_s = time.monotonic() + within_s
        while not condition():
            assert self._child.poll() is None, f"the worker ended before: {what}\n{self.said}"
            assert time.monotonic() < until_s, f"not within {within_s} s: {what}\n{self.said}"
            time.sleep(every_s)

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a page of the observation port; 0 while nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=15) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    @property
    def ready(self) -> bool:
        return self.get("/readyz")[0] == 200

    def metric(self, line: str) -> float:
        """The value of a series, by its exact name and labels; 0 when it is not there."""
        for found in self.get("/metrics")[1].splitlines():
            name, _, value = found.rpartition(" ")
            if name == line:
                return float(value)
        return 0.0

    def signal(self, number: signal.Signals) -> None:
        self._child.send_signal(number)

    def ended(self, within_s: float) -> int:
        """Its exit code. Fails when it takes longer."""
        try:
            return self._child.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {within_s} s:\n{self.said}") from None


def run_command(
    arguments: Sequence[str], folder: Path, within_s: float = 90.0, environment: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """`headrace …` to its end."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
    clean |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **(environment or {})}
    return subprocess.run(
        [sys.executable, "-m", "streams", *arguments],
        cwd=folder,
        env=clean,
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )
