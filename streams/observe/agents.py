"""What agents report: the observer of a reader, of its group commits and of what an agent decides."""

from typing import Literal

from prometheus_client import Counter

from streams.errors import REASONS
from streams.observe.catalogue import Metrics


class AgentMetrics:
    """One agent's children, resolved once: the observer of its reader and of its group commits."""

    def __init__(self, metrics: Metrics, agent: str, topic: str) -> None:
        m, self._agent, self._topic = metrics, agent, topic
        self._metrics = metrics
        self._lags: set[int] = set()
        self._recoveries: set[int] = set()
        self._beats: dict[int, int] = {}  # partition -> when the newest that came through was sent
        self._records = m.records.labels(agent)
        self._bytes = m.read_bytes.labels(agent)
        self._batches = m.batches.labels(agent)
        self._batch_records = m.batch_records.labels(agent)
        self._applied = m.applied.labels(agent)
        self._repeated = m.repeated.labels(agent)
        self._age = m.event_age.labels(agent)
        self._duplicates = m.duplicates.labels(agent)
        self._decide = m.decide_seconds.labels(agent)
        self._commit = m.commit_seconds.labels(agent)
        self._durable = m.read_to_durable.labels(agent)
        self._group_failures = m.group_failures.labels(agent)
        self._rewinds = m.rewinds.labels(agent)
        self._foreign = m.foreign.labels(agent)
        self._commit_failures = m.commit_failures.labels(agent)
        self._owned, self._open, self._paused = (
            m.owned.labels(agent),
            m.open.labels(agent),
            m.paused.labels(agent),
        )
        self._left_out = m.left_out.labels(agent)
        self._rebalances = m.rebalances.labels(agent)
        self._rebalance = m.rebalance_seconds.labels(agent)
        self._recovery = m.recovery_seconds.labels(agent)
        self._recovered = m.recovered_records.labels(agent)
        self._outputs: dict[str, Counter] = {}  # by topic

    def batch_read(self, partition: int, records: int, size_bytes: int) -> None:
        self._batches.inc()
        self._records.inc(records)
        self._bytes.inc(size_bytes)
        self._batch_records.observe(records)

    def lag(self, partition: int, records: int, seconds: float) -> None:
        self._lags.add(partition)
        self._metrics.lag_records.labels(self._agent, self._topic, partition).set(records)
        self._metrics.lag_seconds.labels(self._agent, self._topic, partition).set(seconds)

    def partitions(self, owned: int, open_: int) -> None:
        self._owned.set(owned)
        self._open.set(open_)

    def partition_left(self, partition: int) -> None:
        """Take the partition's series away: a stale lag or heartbeat would alarm for ever."""
        if partition in self._beats:
            del self._beats[partition]
            self._metrics.heartbeat_timestamp.remove(self._agent, self._topic, partition)
        if partition in self._lags:  # remove() raises on an unknown child
            self._lags.remove(partition)
            for gauge in (self._metrics.lag_records, self._metrics.lag_seconds):
                gauge.remove(self._agent, self._topic, partition)

    def beating(self, partition: int, now_ms: int) -> None:
        """Heartbeats go into the partition: until the first has come through, now stands for it."""
        if partition not in self._beats:
            self._came_through(partition, now_ms)

    def beat(self, partition: int, sent_ms: int, now_ms: int) -> None:
        """A heartbeat has come through: the effects of all that was read before it are durable."""
        self._metrics.heartbeat_seconds.labels(self._agent).observe(max(0.0, (now_ms - sent_ms) / 1000))
        # one of a worker that had the partition, where this one sends none, is followed by no other
        if partition in self._beats and sent_ms > self._beats[partition]:
            self._came_through(partition, min(sent_ms, now_ms))

    def aged(self, seconds: float) -> None:
        """A batch is durable; how old its first record is by then."""
        self._age.observe(max(0.0, seconds))

    def beat_failed(self) -> None:
        self._metrics.heartbeat_failures.labels(self._agent).inc()

    def _came_through(self, partition: int, sent_ms: int) -> None:
        self._beats[partition] = sent_ms
        self._metrics.heartbeat_timestamp.labels(self._agent, self._topic, partition).set(sent_ms / 1000)

    def rebalanced(self, seconds: float) -> None:
        self._rebalances.inc()
        self._rebalance.observe(seconds)

    def paused(self, partitions: int) -> None:
        self._paused.set(partitions)

    def napping(self, partitions: int) -> None:
        self._metrics.napping.labels(self._agent).set(partitions)

    def commit_failed(self) -> None:
        self._commit_failures.inc()

    def rewound(self) -> None:
        self._rewinds.inc()

    def recovered(self, partition: int, seconds: float) -> None:
        self._recovery.observe(seconds)

    def recovery_remaining(self, partition: int, records: int | None) -> None:
        """None takes the partition's series away."""
        gauge = self._metrics.recovery_remaining
        if records is not None:
            self._recoveries.add(partition)
            gauge.labels(self._agent, partition).set(records)
        elif partition in self._recoveries:  # remove() raises on an unknown child
            self._recoveries.remove(partition)
            gauge.remove(self._agent, partition)

    def snapshot(self, outcome: Literal["written", "failed", "used", "ignored"]) -> None:
        self._metrics.snapshots.labels(self._agent, outcome).inc()

    def recovered_rows(self, rows: int) -> None:
        self._recovered.inc(rows)

    def group_decided(self, batches: int, records: int, decide_s: float) -> None:
        self._decide.observe(decide_s)

    def group_done(
        self, records: int, commit_s: float, oldest_read_s: float, trace: str | None = None
    ) -> None:
        """`trace`: of a record in the oldest batch, as the exemplar of how long it took."""
        exemplar = {"trace_id": trace} if trace is not None else None
        self._applied.inc(records)
        self._commit.observe(commit_s, exemplar)
        self._durable.observe(oldest_read_s, exemplar)

    def group_failed(self, batches: int) -> None:
        self._group_failures.inc()

    def foreign_rows(self, records: int) -> None:
        self._foreign.inc(records)

    def repeated(self, records: int) -> None:
        self._repeated.inc(records)

    def duplicated(self, records: int) -> None:
        self._duplicates.inc(records)

    def forgotten(self, records: int) -> None:
        self._metrics.forgotten.labels(self._agent).inc(records)

    def privacy_order(self, kind: str) -> None:
        self._metrics.privacy_orders.labels(self._agent, kind).inc()

    def published(self, topic: str, records: int) -> None:
        counter = self._outputs.get(topic)
        if counter is None:
            counter = self._outputs[topic] = self._metrics.outputs.labels(self._agent, topic)
        counter.inc(records)

    def dead_lettered(self, reason: str) -> None:
        """Count a dead letter; an unknown reason is a programming error, not a new label."""
        assert reason in REASONS, reason
        self._metrics.dead_letters.labels(self._agent, reason).inc()

    def left_out(self, records: int) -> None:
        self._left_out.inc(records)

    def retried(self, reason: str, wait_s: float) -> None:
        """Count a record that is to be tried again."""
        assert reason in REASONS, reason
        self._metrics.retries.labels(self._agent, reason).inc()
        self._metrics.retry_wait.labels(self._agent).observe(wait_s)
