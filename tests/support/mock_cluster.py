"""librdkafka's mock cluster: several brokers inside this process, with faults on demand.

The C library lies in the confluent-kafka wheel; its mock API (rdkafka_mock.h) is experimental, so the wheel
is pinned. Limits: topics are created here and not by CreateTopics, about 5 MiB are kept per partition,
aborted records are visible, there is no fencing and no compaction.
"""

import ctypes
import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import TracebackType

PRODUCE, FETCH, METADATA, OFFSET_COMMIT, JOIN_GROUP, HEARTBEAT = 0, 1, 3, 8, 11, 12
"""API keys of Kafka's protocol, for `push_errors`."""

NOT_LEADER, REQUEST_TIMED_OUT, COORDINATOR_NOT_AVAILABLE = 6, 7, 15
TOPIC_AUTHORIZATION_FAILED, UNKNOWN_SERVER_ERROR = 29, -1
"""Error codes of Kafka's protocol, for `push_errors`."""

_PRODUCER = 0


def problem() -> str | None:
    """Why there is no mock cluster here, or None."""
    return None if _library_path() else "confluent-kafka is not installed with its own librdkafka"


class MockCluster:
    """`brokers` brokers with ids 1, 2, …; nodes and records go with `close`."""

    def __init__(self, brokers: int = 3) -> None:
        self._lib = _library()
        reason = ctypes.create_string_buffer(512)
        self._client = self._lib.rd_kafka_new(_PRODUCER, self._lib.rd_kafka_conf_new(), reason, len(reason))
        if not self._client:
            raise RuntimeError(f"rd_kafka_new: {reason.value.decode()}")
        self._cluster = self._lib.rd_kafka_mock_cluster_new(self._client, brokers)
        if not self._cluster:
            raise RuntimeError("rd_kafka_mock_cluster_new failed")
        self.bootstrap: str = self._lib.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        self.set_join_delay_ms(0)

    def create_topic(self, name: str, partitions: int = 1, replication: int = 1) -> None:
        self._check("topic_create", name.encode(), partitions, replication)

    def set_leader(self, topic: str, partition: int, broker: int) -> None:
        """Move a partition to a broker; -1 leaves it without a leader."""
        self._check("partition_set_leader", topic.encode(), partition, broker)

    def set_coordinator(self, group: str, broker: int) -> None:
        self._check("coordinator_set", b"group", group.encode(), broker)

    def broker_down(self, broker: int) -> None:
        """Its connections are cut and refused until `broker_up`."""
        self._check("broker_set_down", broker)

    def broker_up(self, broker: int) -> None:
        self._check("broker_set_up", broker)

    def set_round_trip_ms(self, broker: int, round_trip_ms: int) -> None:
        self._check("broker_set_rtt", broker, round_trip_ms)

    def push_errors(self, api: int, errors: Sequence[int]) -> None:
        """The next requests of this API, to whichever broker, are answered with these errors, one each."""
        codes = (ctypes.c_int * len(errors))(*errors)
        self._lib.rd_kafka_mock_push_request_errors_array(
            self._cluster, ctypes.c_int16(api), ctypes.c_size_t(len(errors)), codes
        )

    def set_join_delay_ms(self, delay_ms: int) -> None:
        """How long an empty group waits for more members before its first assignment."""
        self._lib.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, ctypes.c_int32(delay_ms))

    def close(self) -> None:
        if self._cluster:
            self._lib.rd_kafka_mock_cluster_destroy(self._cluster)
            self._lib.rd_kafka_destroy(self._client)
            self._cluster = self._client = None

    def __enter__(self) -> "MockCluster":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self, call: str, *arguments: object) -> None:
        code = getattr(self._lib, f"rd_kafka_mock_{call}")(self._cluster, *arguments)
        if code:
            raise RuntimeError(
                f"rd_kafka_mock_{call}{arguments}: {self._lib.rd_kafka_err2str(code).decode()}"
            )


def _library_path() -> Path | None:
    spec = importlib.util.find_spec("confluent_kafka")
    if spec is None or spec.origin is None:
        return None
    package = Path(spec.origin).parent
    # manylinux wheels carry it in confluent_kafka.libs, macOS wheels in confluent_kafka/.dylibs
    found = [*package.with_name("confluent_kafka.libs").glob("librdkafka*.so*")]
    found += package.joinpath(".dylibs").glob("librdkafka*.dylib")
    return found[0] if found else None


@cache
def _library() -> ctypes.CDLL:
    path = _library_path()
    if path is None:
        raise RuntimeError(problem())
    import confluent_kafka  # noqa: F401  loads what librdkafka itself needs

    lib = ctypes.CDLL(str(path))
    handle, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for name, result, arguments in (
        ("conf_new", handle, []),
        ("new", handle, [number, handle, text, ctypes.c_size_t]),
        ("destroy", None, [handle]),
        ("err2str", text, [number]),
        ("mock_cluster_new", handle, [handle, number]),
        ("mock_cluster_destroy", None, [handle]),
        ("mock_cluster_bootstraps", text, [handle]),
        ("mock_topic_create", number, [handle, text, number, number]),
        ("mock_partition_set_leader", number, [handle, text, ctypes.c_int32, ctypes.c_int32]),
        ("mock_coordinator_set", number, [handle, text, text, ctypes.c_int32]),
        ("mock_broker_set_down", number, [handle, ctypes.c_int32]),
        ("mock_broker_set_up", number, [handle, ctypes.c_int32]),
        ("mock_broker_set_rtt", number, [handle, ctypes.c_int32, number]),
        ("mock_push_request_errors_array", None, [handle, ctypes.c_int16, ctypes.c_size_t, handle]),
        ("mock_group_initial_rebalance_delay_ms", None, [handle, ctypes.c_int32]),
    ):
        function = getattr(lib, f"rd_kafka_{name}")  # kept by CDLL under this name, with its types
        function.restype, function.argtypes = result, arguments
    return lib
