"""One node of the real Apache Kafka (KRaft) from a folder of jars, for tests and benchmarks.

The jars are those of `org.apache.kafka:kafka_2.13` and `kafka-tools` with their dependencies; a JDK 17 or
newer runs them. Without an SLF4J binding among the jars Kafka logs next to nothing. Data survives `stop`,
`kill` and `restart`, and goes with `close` (the end of a `with` block) unless the caller named the folder.
"""

import base64
import re
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from streams.demo.server import HOST, ServerProcess, answers, check_free, free_ports
from streams.errors import EnvironmentProblem

JAVA_AT_LEAST = 17
START_WITHIN_S = 90.0
STOP_WITHIN_S = 20.0
FORMAT_WITHIN_S = 60.0

PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "auto.create.topics.enable": "false",  # nothing of ours may rely on it
}
"""What one node on the loopback address needs; `properties` of KafkaBroker is put over it."""


class KafkaBroker:
    """A Kafka process on a loopback port, for the length of a `with` block or from `start` to `close`.

    `port` 0 picks a free one, kept over restarts. `heap_mb` is the JVM's -Xmx. `cpus` pins the process to
    these cores (Linux). `properties` are server properties that win over `PROPERTIES`. `listeners` are further ones,
    name -> (port it listens on, port it tells clients), so that something may stand between. `scram` are credentials
    made with the data: `SCRAM-SHA-512=[name=ada,password=…]`.
    """

    def __init__(
        self,
        lib: Path,
        port: int = 0,
        data: Path | None = None,
        heap_mb: int = 512,
        cpus: Collection[int] = (),
        properties: Mapping[str, str] | None = None,
        listeners: Mapping[str, tuple[int, int]] | None = None,
        jvm_options: Sequence[str] = (),
        java: str = "java",
        start_within_s: float = START_WITHIN_S,
        scram: Sequence[str] = (),
    ) -> None:
        self.port = port
        self._lib = lib
        self._keep_data = data is not None
        self._folder = data
        self._heap_mb = heap_mb
        self._cpus = cpus
        self._properties = dict(properties or {})
        self._listeners = dict(listeners or {})
        self._jvm_options = tuple(jvm_options)
        self._java_name = java
        self._start_within_s = start_within_s
        self._scram = tuple(scram)
        self._server: ServerProcess | None = None

    @property
    def bootstrap(self) -> str:
        """host:port, once started."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        return self._server.pid if self._server else None

    @property
    def data(self) -> Path | None:
        """The folder with `server.properties`, `kafka.log` and the records; None before the first start."""
        return self._folder

    def start(self) -> "KafkaBroker":
        """Block until it serves, which takes seconds.

        After `kill` it takes `broker.session.timeout.ms` more (9 s by default): the controller waits until
        the dead incarnation's session has ended. Raises EnvironmentProblem: no jars, no JDK, a port in use,
        no answer in time.
        """
        if self.pid is not None:
            raise RuntimeError("Kafka is running already")
        if self._server is None:
            try:
                self._server = self._prepared()
            except BaseException:
                self.close()
                raise
        else:
            check_free(self.port, "another process took it while Kafka was down")
        self._server.start(lambda: answers(self.port), self._start_within_s)
        return self

    def stop(self) -> None:
        """SIGTERM, then SIGKILL after a bound; the data stays. Fine to call twice."""
        if self._server is not None:
            self._server.stop(STOP_WITHIN_S)

    def kill(self) -> None:
        """SIGKILL at once; the data stays."""
        if self._server is not None:
            self._server.kill()

    def restart(self) -> None:
        """Stop it and start it again on the same port and data; block until it serves."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop it for good; the data goes unless the caller named the folder."""
        self.stop()
        if self._folder is not None and not self._keep_data:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder, self._server = None, None

    def __enter__(self) -> "KafkaBroker":
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _prepared(self) -> ServerProcess:
        """The process, not yet started, over a formatted data folder."""
        java = java_program(self._java_name)
        classpath = jars(self._lib)
        if self.port:
            check_free(self.port, "stop what listens there, or name another port")
            controller = free_ports(1)[0]
        else:
            self.port, controller = free_ports(2)
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="headrace-kafka-"))
        self._folder.mkdir(parents=True, exist_ok=True)
        properties = self._folder / "server.properties"
        properties.write_text(self._server_properties(controller), encoding="utf-8")
        if not (self._folder / "records" / "meta.properties").exists():
            _format(java, classpath, properties, self._scram)
        return ServerProcess(
            f"Kafka on port {self.port}",
            [
                java,
                f"-Xmx{self._heap_mb}m",
                *self._jvm_options,
                "-cp",
                classpath,
                "kafka.Kafka",
                str(properties),
            ],
            self._folder / "kafka.log",
            self._cpus,
        )

    def _server_properties(self, controller: int) -> str:
        all_ = {"PLAINTEXT": (self.port, self.port), **self._listeners}
        bound = [f"{name}://{HOST}:{port}" for name, (port, _) in all_.items()]
        protocols = PROPERTIES["listener.security.protocol.map"]
        ours = {
            "controller.quorum.voters": f"1@{HOST}:{controller}",
            "listeners": ",".join([*bound, f"CONTROLLER://{HOST}:{controller}"]),
            "advertised.listeners": ",".join(f"{name}://{HOST}:{told}" for name, (_, told) in all_.items()),
            "listener.security.protocol.map": ",".join(
                [protocols, *(f"{name}:PLAINTEXT" for name in self._listeners)]
            ),
            "log.dirs": f"{self._folder}/records",
        }
        return "".join(f"{name}={value}\n" for name, value in (PROPERTIES | ours | self._properties).items())


def jars(lib: Path | None) -> str:
    """The class path of Kafka's jars in `lib`. Raises EnvironmentProblem when they are not there."""
    if lib is None:
        raise EnvironmentProblem(
            "no Kafka: HEADRACE_KAFKA_LIB must name the folder of Kafka's jars (`lib` of a Kafka download)"
        )
    if not any(lib.glob("kafka_2.*.jar")):
        raise EnvironmentProblem(f"{lib} holds no Kafka: HEADRACE_KAFKA_LIB must name the folder of its jars")
    return f"{lib.resolve()}/*"


def java_program(name: str = "java") -> str:
    """The path of a JDK's `java`. Raises EnvironmentProblem when it is missing or too old."""
    found = shutil.which(name)
    if found is None:
        raise EnvironmentProblem(
            f"no `{name}` on the path: a real Kafka needs a JDK {JAVA_AT_LEAST} or newer"
        )
    said = subprocess.run(
        [found, "-version"], capture_output=True, text=True, timeout=FORMAT_WITHIN_S, check=False
    )
    version = re.search(r'version "(?:1\.)?(\d+)', said.stderr + said.stdout)
    if version is None or int(version[1]) < JAVA_AT_LEAST:
        line = (said.stderr + said.stdout).partition("\n")[0].strip()
        raise EnvironmentProblem(f"{found} says `{line}`: a real Kafka needs a JDK {JAVA_AT_LEAST} or newer")
    return found


def _format(java: str, classpath: str, properties: Path, scram: Sequence[str]) -> None:
    """Write the cluster id into the data folder, as every KRaft node wants before its first start."""
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes)[:22].decode().replace("-", "A")  # no option
    done = subprocess.run(
        [
            java,
            "-Xmx256m",
            "-cp",
            classpath,
            "kafka.tools.StorageTool",
            "format",
            "-t",
            cluster,
            "-c",
            str(properties),
            *(part for one in scram for part in ("--add-scram", one)),
        ],
        capture_output=True,
        text=True,
        timeout=FORMAT_WITHIN_S,
        check=False,
    )
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if not line.startswith("\tat ")]
        said = "\n".join(f"    {line}" for line in lines[-10:])
        raise EnvironmentProblem(f"Kafka's data folder {properties.parent} cannot be formatted:\n{said}")
