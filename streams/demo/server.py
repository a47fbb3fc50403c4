"""A server as a child process: started, waited for, stopped, and never left behind.

The child runs in a session of its own, so that Ctrl-C reaches the parent alone, which stops its servers
last. On Linux the kernel kills the child when the parent ends, however it ends (`launch.py`). That signal is
tied to the *thread* that forked, so a keeper thread that lives as long as the child starts it. Elsewhere
`atexit` is all there is. Knows nothing of Kafka but one probe, `answers`.
"""

import atexit
import contextlib
import os
import secrets
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from streams.clock import Clock, SystemClock
from streams.errors import EnvironmentProblem

HOST = "127.0.0.1"
LOWEST_PORT = 10_000  # of those that are picked: below lie the well-known ones of databases and the like
PICKS = 50
OUTGOING_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
TAIL_LINES = 15
POLL_S = 0.02
KILLED_WITHIN_S = 10.0
"""SIGKILL cannot be refused, but a process in an uninterruptible wait ends only after it."""

_METADATA_V4 = struct.pack(">hhih5sib", 3, 4, 1, 5, b"probe", 0, 0)
"""Kafka's Metadata request, version 4, for no topic and without creation: every broker since 1.0 knows it."""


class ServerProcess:
    """One child process with its log file. `start` may follow `stop`; not for use by two threads at once."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        cpus: Collection[int] = (),
        clock: Clock | None = None,
    ) -> None:
        self._name = name
        self._command = list(command)
        self._log = log
        self._cpus = ",".join(str(cpu) for cpu in sorted(cpus)) or "-"
        self._clock = clock or SystemClock()
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = threading.Event()
        self._log_start_bytes = 0

    @property
    def pid(self) -> int | None:
        """Of the running process, else None."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def running(self) -> bool:
        return self._process is not None and not self._ended.is_set()

    @property
    def memory_mb(self) -> float | None:
        """Resident memory; None when it does not run, or on a system without /proc."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1])
        except OSError:
            return None
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def start(self, ready: Callable[[], bool], within_s: float) -> None:
        """Start it and block until `ready()` is true. Raises EnvironmentProblem, and then nothing is left."""
        if self.running:
            raise RuntimeError(f"{self._name} is running already")
        self._launch()
        until_s = self._clock.monotonic_s() + within_s
        try:
            # Ready first: an answer counts only if it is ours, from a process that still lives.
            while not ready() or self._ended.is_set():
                if self._ended.wait(POLL_S):
                    raise EnvironmentProblem(f"{self._name} ended at its start{self._tail()}")
                if self._clock.monotonic_s() > until_s:
                    raise EnvironmentProblem(f"{self._name} did not answer in {within_s:g} s{self._tail()}")
        except BaseException:  # Ctrl-C too must not leave a server behind
            self.kill()
            raise

    def stop(self, within_s: float) -> int | None:
        """SIGTERM, then SIGKILL after `within_s`. Returns the exit code, None when it was not running."""
        if self._process is None or not self.running:
            return None
        self._process.send_signal(signal.SIGTERM)
        if not self._ended.wait(within_s):
            self.kill()
        atexit.unregister(self.kill)
        return self._process.returncode

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone. Nothing happens when it is not running."""
        if self._process is not None and self.running:
            self._process.kill()
            self._ended.wait(KILLED_WITHIN_S)
        atexit.unregister(self.kill)

    def _launch(self) -> None:
        forked = threading.Event()
        failure: list[OSError] = []
        self._process = None
        self._ended = ended = threading.Event()

        launcher = [sys.executable, "-I", "-S", str(Path(__file__).with_name("launch.py"))]

        def keep() -> None:
            try:
                with self._log.open("ab") as log:
                    self._log_start_bytes = log.tell()
                    self._process = process = subprocess.Popen(
                        [*launcher, str(os.getpid()), self._cpus, *self._command],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
            except OSError as error:
                failure.append(error)
                return
            finally:
                forked.set()
            process.wait()
            ended.set()

        threading.Thread(target=keep, name=f"keeper of {self._name}", daemon=True).start()
        forked.wait()
        if failure:
            raise EnvironmentProblem(f"{self._name} cannot be started: {failure[0]}")
        atexit.register(self.kill)

    def _tail(self) -> str:
        """The last lines that this start wrote, indented under the message."""
        with self._log.open("rb") as log:
            log.seek(self._log_start_bytes)
            lines = log.read()[-16_384:].decode("utf-8", "replace").splitlines()[-TAIL_LINES:]
        if not lines:
            return f" (nothing in its log, {self._log})"
        return f"; the end of its log, {self._log}:\n" + "\n".join(f"    {line}" for line in lines)


def free_ports(count: int) -> list[int]:
    """Different loopback ports that were free just now; another process may still take one.

    None of those that the kernel gives to outgoing connections: until its server binds it, any connection of this
    machine could take one.
    """
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            _bind(one)
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _bind(trial: socket.socket) -> None:
    """To a port that is free; to any that the kernel gives, where none of ours is found."""
    below = _outgoing_from()
    for _ in range(PICKS if below > 2 * LOWEST_PORT else 0):
        with contextlib.suppress(OSError):
            return trial.bind((HOST, LOWEST_PORT + secrets.randbelow(below - LOWEST_PORT)))
    return trial.bind((HOST, 0))


def _outgoing_from() -> int:
    """The first port of outgoing connections; 0 where the system does not tell."""
    try:
        return int(OUTGOING_PORTS.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return 0


def check_free(port: int, remedy: str) -> None:
    """Raises EnvironmentProblem, which ends with `remedy`, when something listens on the loopback port."""
    with socket.socket() as trial:
        # As servers do: a port in TIME_WAIT is free, a port with a listener is not.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((HOST, port))
        except OSError as error:
            raise EnvironmentProblem(
                f"port {port} on {HOST} cannot be used ({error.strerror}): {remedy}"
            ) from None


def answers(port: int, timeout_s: float = 2.0) -> bool:
    """Whether a broker on the loopback port answers a Metadata request and names at least one broker."""
    try:
        with socket.create_connection((HOST, port), timeout_s) as link:
            link.sendall(struct.pack(">i", len(_METADATA_V4)) + _METADATA_V4)
            reply = link.makefile("rb").read(16)  # length, correlation id, throttle time, count of brokers
    except OSError:
        return False
    return len(reply) == 16 and struct.unpack(">iiii", reply)[3] > 0
