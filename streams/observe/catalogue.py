"""Every metric once: name, unit, labels, help. The rest of `streams` reports through the observers beside this file.

Labels are bounded (agent, topic, partition, task, reason); never a user, an item or an offset. Children are
resolved once and updated a batch at a time: a per-record exporter costs about 30 µs a record (measured on Faust's).
"""

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

disable_created_metrics()  # type: ignore[no-untyped-call]

FAST_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
WIDE_S = (*FAST_S, 30, 60, 120)  # clicks take milliseconds, recordings a minute
POWERS = tuple(float(1 << i) for i in range(14))
OPEN_METRICS = "application/openmetrics-text"
CLASSIC = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """One registry a worker."""

    def __init__(self, version: str) -> None:
        self.registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"headrace_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"headrace_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"headrace_{name}", text, labels, buckets=buckets, registry=registry)

        self.records = counter("records_total", "Records read.", "agent")
        self.read_bytes = counter("read_bytes_total", "Bytes of records read, estimated.", "agent")
        self.batches = counter("batches_total", "Partition batches read.", "agent")
        self.batch_records = histogram("batch_records", "Records of a partition batch.", POWERS, "agent")
        self.applied = counter("applied_total", "Records whose effects are durable.", "agent")
        self.repeated = counter(
            "repeated_total", "Records at or below their fence: read again, changed nothing.", "agent"
        )
        self.duplicates = counter(
            "duplicates_total", "Events that their producer sent twice: the second changed nothing.", "agent"
        )
        self.forgotten = counter(
            "forgotten_total", "Clicks and dead letters of readers who were forgotten: dropped.", "agent"
        )
        self.privacy_orders = counter(
            "privacy_orders_total", "Orders of readers carried out: forget, opt_out, opt_in.", "agent", "kind"
        )
        self.outputs = counter("outputs_total", "Records published.", "agent", "topic")
        self.dead_letters = counter(
            "dead_letters_total", "Records sent to a dead-letter topic.", "agent", "reason"
        )
        self.left_out = counter(
            "dead_letters_left_out_total",
            "Dead letters without their value: the topic would not have taken it.",
            "agent",
        )
        self.retries = counter(
            "retries_total", "Records sent to a retry topic to be tried again.", "agent", "reason"
        )
        self.retry_wait = histogram(
            "retry_wait_seconds", "Wait before the next attempt, as scheduled.", WIDE_S, "agent"
        )
        self.decide_seconds = histogram(
            "decide_seconds", "Time to decide a group of batches.", FAST_S, "agent"
        )
        self.commit_seconds = histogram(
            "commit_seconds", "From decision to durable, a group.", FAST_S, "agent"
        )
        self.read_to_durable = histogram(
            "read_to_durable_seconds",
            "From read to durable effects, the oldest batch of a group.",
            WIDE_S,
            "agent",
        )
        self.event_age = histogram(
            "event_age_seconds",
            "From a record's own time to the durability of its effects, the first of a batch.",
            WIDE_S,
            "agent",
        )
        self.group_failures = counter(
            "group_failures_total", "Groups whose effects were not confirmed.", "agent"
        )
        self.foreign = counter(
            "foreign_rows_total", "Changelog records that a worker without the partition wrote.", "agent"
        )
        self.rewinds = counter("rewinds_total", "Starts over from the committed offsets.", "agent")
        self.commit_failures = counter(
            "commit_failures_total", "Offset commits refused or unanswered.", "agent"
        )
        self.lag_records = gauge(
            "consumer_lag_records", "High watermark minus committable.", "agent", "topic", "partition"
        )
        self.lag_seconds = gauge(
            "consumer_lag_seconds",
            "Age of the last finished record while behind, else 0.",
            "agent",
            "topic",
            "partition",
        )
        self.heartbeat_timestamp = gauge(
            "heartbeat_timestamp_seconds",
            "When the newest heartbeat that came through was sent, since 1970.",
            "agent",
            "topic",
            "partition",
        )
        self.heartbeat_seconds = histogram(
            "heartbeat_seconds",
            "From a heartbeat's sending to the durability of all before it.",
            WIDE_S,
            "agent",
        )
        self.heartbeat_failures = counter(
            "heartbeat_failures_total", "Heartbeats that no broker confirmed.", "agent"
        )
        self.channel_seconds = histogram(
            "channel_wait_seconds", "From read until the agent takes the batch.", FAST_S, "agent"
        )
        self.owned = gauge("partitions_owned", "Partitions of this worker.", "agent")
        self.open = gauge("partitions_open", "Partitions whose state is in memory.", "agent")
        self.paused = gauge("partitions_paused", "Partitions held by flow control.", "agent")
        self.napping = gauge(
            "partitions_napping", "Partitions whose next record is not due to be tried again.", "agent"
        )
        self.rebalances = counter("rebalances_total", "Partitions taken away and handed over.", "agent")
        self.rebalance_seconds = histogram("rebalance_seconds", "Time to let partitions go.", WIDE_S, "agent")
        self.recovery_seconds = histogram(
            "recovery_seconds", "Time to read a partition's state.", WIDE_S, "agent"
        )
        self.recovered_records = counter("recovered_records_total", "Changelog records read back.", "agent")
        self.snapshots = counter(
            "snapshots_total", "Local snapshots: written, failed, used, ignored.", "agent", "outcome"
        )
        self.recovery_remaining = gauge(
            "recovery_remaining_records",
            "Changelog records still to be read back, by offsets.",
            "agent",
            "partition",
        )
        self.users = gauge("users", "Readers in memory.")
        self.user_bytes = gauge("user_state_bytes", "Memory of readers' rows.")
        self.items = gauge("items", "Items in memory.")
        self.contents = gauge("item_contents", "Items with a content vector.")
        self.contents_beyond = gauge(
            "item_contents_beyond", "Content vectors left out: too many of a revision, or of another length."
        )
        self.contents_left_out = counter(
            "contents_left_out_total", "Labels that should have told what an asset is about.", "reason"
        )
        self.odd = counter(
            "odd_clicks_total",
            "Clicks that count all the same, by rule: `late` behind the reader's newest, `too_late` to move a sum, "
            "`dwell` below 0 or above a day.",
            "what",
        )
        self.items_beyond = gauge(
            "items_beyond", "Look-ups of items beyond taste.max_items: they count as one unknown item."
        )
        self.undone = counter(
            "undos_total",
            "Undos that took an event back; that only lifted what an older one had hidden (shown_again); and those in "
            "vain: the reader's last events hold none of that item. pair_left: items that an undone event had led to "
            "and whose names a worker did not know yet, right after a restart; these pairs stay.",
            "outcome",
        )
        self.hidden_fell_out = counter(
            "hidden_fell_out_total",
            "Items and authors that a reader had hidden and that may be listed again: others were hidden since, more "
            "than are kept.",
        )
        self.catalogue_items = gauge("catalogue_items", "Items that the catalogue describes.")
        self.catalogue_records = counter("catalogue_records_total", "Records of the catalogue taken.")
        self.catalogue_bad = counter(
            "catalogue_bad_records_total", "Records of topic items that are no catalogue entry.", "reason"
        )
        self.catalogue_beyond = gauge(
            "catalogue_names_beyond", "Authors and topics met beyond their bounds: they count as unknown."
        )
        self.lists = counter("recommendations_total", "Lists published.")
        self.stages_left_out = counter(
            "list_stages_left_out_total",
            "Lists made without a stage since their time was spent; without `score` they are popular items.",
            "stage",
        )
        self.blend_weight = gauge(
            "blend_weight", "Weights of the learnt blend: of each part and form of it.", "part", "form"
        )
        self.blend_choices = counter(
            "blend_choices_total",
            "Clicks of readers whose list was remembered: learnt, beyond (no candidate of that list), left_out "
            "(too many at once).",
            "outcome",
        )
        self.sequence_revisions = counter(
            "sequence_revisions_total",
            "Revisions of the sequence model: loaded and in use, or refused while the one before goes on.",
            "result",
        )
        self.sequence_trainings = counter(
            "sequence_trainings_total",
            "Trainings of the sequence model beside the worker: done, failed, or late and ended.",
            "result",
        )
        self.recall = gauge(
            "recall_at_k", "Share of sampled clicks on one of the first K: decayed mean.", "layer"
        )
        self.mrr = gauge("mrr_at_k", "1 / place of the clicked item up to K: decayed mean.", "layer")
        self.ndcg = gauge(
            "ndcg_at_k", "1 / log2(1 + place) of the clicked item up to K: decayed mean.", "layer"
        )
        self.quality_scored = counter(
            "quality_scored_total", "Clicks scored before they were learnt.", "layer"
        )
        self.quality_left_out = counter(
            "quality_left_out_total",
            "Clicks of the sample not scored: first, repeat, group (not its reader's first), time (none left).",
            "reason",
        )
        self.quality_top = gauge("quality_top", "K of the quality meters.")
        self.quality_seconds = counter("quality_seconds_total", "Time spent on the quality meters.")
        arm = ("experiment", "arm")
        self.arm_lists = counter("arm_lists_total", "Lists published of an arm, or with its items.", *arm)
        self.arm_clicks = counter(
            "arm_clicks_total", "First clicks on items of the reader's newest list, by arm or team.", *arm
        )
        self.arm_uncredited = counter(
            "arm_uncredited_total",
            "Clicks of readers in an experiment on nothing of a list that is remembered.",
            "experiment",
        )
        self.arm_recall = gauge(
            "arm_recall_at_k", "recall_at_k of an arm's list, on the sampled clicks of its readers.", *arm
        )
        self.arm_mrr = gauge("arm_mrr_at_k", "mrr_at_k of an arm's list.", *arm)
        self.arm_ndcg = gauge("arm_ndcg_at_k", "ndcg_at_k of an arm's list.", *arm)
        self.arm_scored = counter("arm_scored_total", "Clicks that an arm's list was scored on.", *arm)
        self.arm_hits = counter("arm_hits_total", "Of these, clicks on one of the first K.", *arm)
        self.arm_reciprocal_ranks = counter(
            "arm_reciprocal_ranks_total", "Sum of 1 / place of the clicked item up to K.", *arm
        )
        self.arm_gains = counter(
            "arm_gains_total", "Sum of 1 / log2(1 + place) of the clicked item up to K.", *arm
        )
        self.inference_seconds = histogram("inference_seconds", "Device time of a batch.", WIDE_S, "task")
        self.inference_units = counter("inference_units_total", "Units run on the device.", "task")
        self.inference_batch = histogram("inference_batch_units", "Units of a device batch.", POWERS, "task")
        self.inference_queue = histogram(
            "inference_queue_seconds", "Wait of a batch's oldest unit.", WIDE_S, "task"
        )
        self.inference_useful = counter("inference_useful_cost_total", "Cost of real input.", "task")
        self.inference_paid = counter("inference_paid_cost_total", "Cost with padding.", "task")
        self.inference_failures = counter(
            "inference_failures_total", "Payloads without an answer.", "task", "reason"
        )
        self.inference_repeats = counter(
            "inference_repeats_total",
            "Payloads whose content was in flight (joined) or known (kept).",
            "task",
            "how",
        )
        self.inference_late = counter(
            "inference_late_total", "Payloads answered past their deadline.", "task"
        )
        self.inference_compiles = counter(
            "inference_compiles_total",
            "Graphs compiled or captured after the warm-up: shapes that it missed.",
            "task",
        )
        self.inference_uncaptured = gauge(
            "inference_uncaptured_shapes",
            "Batch shapes whose graph could not be captured on the GPU: such batches run eagerly.",
            "task",
        )
        self.inference_restarts = counter(
            "inference_restarts_total",
            "Times the device thread died and was started anew, by what killed it.",
            "reason",
        )
        self.inference_drain = gauge(
            "inference_drain_seconds", "Predicted work of what waits for the device."
        )
        self.labels = counter("labels_total", "Labels published.", "task")
        self.pages = gauge("page_clients", "Live pages that are open.")
        self.pages_dropped = counter(
            "page_clients_dropped_total", "Live pages that did not take what was sent."
        )
        self.page_clicks = counter("page_clicks_total", "Clicks that were sent from the live page.")
        self.build = gauge("build_info", "Always 1.", "version")
        self.build.labels(version).set(1)

    def samples(self) -> Iterator[tuple[str, Mapping[str, str], float]]:
        """Every sample of this moment: name, labels, value. The same as `text`, without the text."""
        for family in self.registry.collect():
            for sample in family.samples:
                yield sample.name, sample.labels, sample.value

    def text(self) -> bytes:
        """The page that Prometheus scrapes, in the classic format."""
        return bytes(generate_latest(self.registry))

    def page(self, accepts: str) -> tuple[bytes, str]:
        """What a scraper asks for by its `Accept`, and its content type: OpenMetrics has exemplars, the classic format
        has none and is what everybody else gets."""
        if OPEN_METRICS in accepts:
            page = openmetrics.generate_latest(self.registry)  # type: ignore[no-untyped-call]
            return bytes(page), openmetrics.CONTENT_TYPE_LATEST
        return self.text(), CLASSIC
