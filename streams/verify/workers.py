"""Worker processes that are killed, stopped, frozen and started again; each place keeps one log file."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from streams.demo import launch
from streams.errors import Fatal
from streams.settings import plain_environment

ROOT = Path(__file__).resolve().parents[2]  # where `streams` lies: workers run the same code


class Place:
    """One worker of the run: a place that is always filled again."""

    def __init__(self, number: int, options: list[str], folder: Path) -> None:
        self.name = f"worker-{number}"
        # ends with this process, however that ends
        launcher = [sys.executable, "-I", "-S", str(Path(launch.__file__)), str(os.getpid()), "-"]
        self.snapshots = folder / f"{self.name}.state"
        options = [*options, f"--set=state.snapshots={self.snapshots}"]
        self._clock = folder / f"{self.name}.clock"
        self._clock.write_text("0")
        self._command = [*launcher, sys.executable, "-m", "streams.verify.worker", str(self._clock), *options]
        self._log = folder / f"{self.name}.log"
        self._log.touch()
        self._said_bytes = 0  # by those before it
        self._environment = plain_environment() | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Fill the place."""
        self._said_bytes = self._log.stat().st_size
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def check(self) -> None:
        """Raises Fatal when the worker has ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            raise Fatal(f"{self.name} ended with {self._process.returncode}:\n{self.tail()}")

    def kill(self) -> None:
        """SIGKILL, which also ends a frozen one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def terminate(self, within_s: float) -> str | None:
        """SIGTERM; what was wrong with its end, or None."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return f"{self.name} did not end within {within_s:g} s of SIGTERM:\n{self.tail()}"
        self._process = None
        early = code == -signal.SIGTERM and "owns partitions" not in self._said()
        if code == 0 or early:  # one that has just been started could not yet handle the signal
            return None
        return f"{self.name} ended with {code} after SIGTERM:\n{self.tail()}"

    def refuses(self, why: str, within_s: float) -> str | None:
        """It must end by itself and say why; what was wrong with that, or None."""
        assert self._process is not None
        try:
            code = self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            return f"{self.name} did not refuse ({why}) within {within_s:g} s:\n{self.tail()}"
        said = self._said()
        self._process = None
        if code == 0 or why not in said:
            return f"{self.name} ended with {code} and did not say: {why}\n{self.tail()}"
        return None

    def traces(self) -> str | None:
        """The first stack trace that it wrote into its log, or None."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        first = next((n for n, line in enumerate(lines) if line.startswith("Traceback")), None)
        if first is None:
            return None
        some = "\n".join(f"    {line}" for line in lines[max(0, first - 2) : first + 30])
        return f"{self.name} wrote a stack trace:\n{some}"

    def set_clock(self, ahead_ms: int) -> None:
        """Make its wall clock wrong by so much."""
        aside = self._clock.with_suffix(".new")
        aside.write_text(str(ahead_ms))
        aside.replace(self._clock)

    def _said(self) -> str:
        return self._log.read_bytes()[self._said_bytes :].decode(errors="replace")

    def freeze(self) -> None:
        """SIGSTOP."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def tail(self, lines: int = 15) -> str:
        """The last it said."""
        said = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in said[-lines:])
