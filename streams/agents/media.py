"""Audio and uploads: every task that accepts the media type looks at the payload; each finding becomes a label.

Records of a batch are worked on together, so that the device sees many at once; the batch is submitted when all of
its labels are there. Several batches are in flight; the ledger commits only the contiguous finished prefix.
"""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from faust.streams import Stream

from models.errors import BadInput, ModelError
from models.registry import task_class
from models.types import Finding, ModelInfo, Payload
from streams.agents.base import Agent, Services
from streams.codecs import MediaDecoder, encode
from streams.effects import Effects, Emit, Header, batch_bytes
from streams.errors import REASONS, Fatal, Reject, Retry
from streams.events import LABEL, SOURCE, Because, Label, LabelSpan, Media, ModelName
from streams.fetches import Fetches
from streams.inference.service import InferenceClosed
from streams.payloads import UNAVAILABLE, payload_of
from streams.rejected import Place, Rejected, rejected_by
from streams.retries import Failed, retries, retry_of
from streams.topics import AUDIO, LABELS, UPLOADS, retry
from streams.transport.batch import PartitionBatch, Record
from streams.transport.commit import Submission
from streams.transport.consumer import Profile

NAMESPACE = uuid.UUID("6b1f7c1e-6f0a-5c0e-9d2a-6b6561647261")


@dataclass(frozen=True, slots=True)
class LabelRecord:
    """A label as it is published."""

    task: str
    key: bytes
    value: bytes
    headers: list[Header]


@dataclass(slots=True)
class MediaWork:
    """What became of one batch."""

    labels: list[LabelRecord] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)  # to be tried again


class MediaAgent(Agent[MediaWork]):
    """Common to audio and uploads."""

    tasks: ClassVar[tuple[str, ...]]

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._media = services.settings.media
        self._decoder = MediaDecoder(self._media.max_payload_bytes)
        self._slots = asyncio.Semaphore(self._media.records_in_flight)
        self._fetches = Fetches(2 * self._media.records_in_flight)  # those that hang hold no slot
        self._accepts: list[tuple[str, Callable[[str], bool]]] = []
        self._batches: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """The tasks are warm: what they import is imported."""
        self._accepts = [(name, task_class(name).accepts) for name in self.tasks]

    def profile(self) -> Profile:
        reader = self.services.settings.reader
        return Profile(
            max_records=self._media.records_in_flight,
            fetch_wait_ms=max(reader.fetch_max_wait_ms, 100),
            fetch_min_bytes=1,
            batches_in_flight=4,
        )

    async def run(self, stream: "Stream[PartitionBatch]") -> None:
        async for event in stream.noack().events():
            batch: PartitionBatch = event.value
            if not batch.lost:
                task = asyncio.create_task(self._label_batch(batch))
                self._batches.add(task)
                task.add_done_callback(self._batch_ended)

    def _batch_ended(self, task: "asyncio.Task[None]") -> None:
        self._batches.discard(task)
        if not task.cancelled() and task.exception() is not None:
            assert self.commit is not None
            self.commit.fail(task.exception())  # a bug, not bad input: do not go on past it

    async def _label_batch(self, batch: PartitionBatch) -> None:
        events, records, rejected = self._decoder(batch.records)
        made = await asyncio.gather(
            *(self._label_record(batch, event, record) for event, record in zip(events, records, strict=True))
        )
        work = MediaWork(rejected=rejected)
        for outcome in made:
            if isinstance(outcome, Rejected):
                work.rejected.append(outcome)
            elif isinstance(outcome, Failed):
                work.failed.append(outcome)
            else:
                work.labels += outcome
        if not batch.lost:
            self.submit(batch, work)

    async def _label_record(
        self, batch: PartitionBatch, event: Media, record: Record
    ) -> list[LabelRecord] | Rejected | Failed:
        """Labels in the order of tasks, or why there are none."""
        async with self._slots:
            place = self.place(batch.partition, record)
            try:
                return await self._labels(batch, event, place)
            except InferenceClosed:  # stopping: whoever reads this batch next labels it
                batch.entry.lost = True
                return []
            except Retry as error:
                rejected = rejected_by(record, error, error.reason)
                limit_bytes = self.services.limit_bytes(retry(self.source))
                return retry_of(rejected, place, self._media, limit_bytes) or rejected
            except (Reject, BadInput) as error:
                return rejected_by(record, error, error.reason if error.reason in REASONS else "failed")
            except ModelError as error:  # the device could not take this item even alone
                return rejected_by(record, error, "failed")

    async def _labels(self, batch: PartitionBatch, event: Media, place: Place) -> list[LabelRecord]:
        """Raises Reject, Retry and ModelError."""
        clock, inference = self.services.clock, self.services.inference
        started_s = clock.monotonic_s()
        names = [name for name, accepts in self._accepts if accepts(event.media_type)]
        if not names:
            raise Reject("unsupported", f"no task of {self.name} reads {event.media_type}")
        payload = await self._fetch(event)
        fetched_s = clock.monotonic_s()
        because = Because(place.topic, place.partition, place.offset)
        records: list[LabelRecord] = []
        for name in names:
            outcome = await inference.submit(name, payload)
            if outcome.follow_ups:
                raise Fatal(f"task {name} asks for others, which this version does not chain")
            timing = {
                "wait_s": round(started_s - batch.read_s, 4),
                "fetch_s": round(fetched_s - started_s, 4),
                "infer_s": round(clock.monotonic_s() - fetched_s, 4),
            }
            model = inference.model(name)
            records += [
                record_of(label_of(event, f, model, because, clock.wall_ms(), timing))
                for f in outcome.findings
            ]
        self._check_size(records)
        return records

    async def _fetch(self, event: Media) -> Payload:
        """Raises Reject, and Retry for what may be there later."""
        fetch = partial(payload_of, event, roots=self._media.roots, max_bytes=self._media.max_payload_bytes)
        return await self._fetches.run(fetch, self._media.fetch_timeout_s, UNAVAILABLE)

    def _check_size(self, records: Sequence[LabelRecord]) -> None:
        """All of a record's labels leave, or none. Raises Reject."""
        limit_bytes = self.services.settings.kafka.max_message_bytes
        for one in records:
            size = batch_bytes(one.key, one.value, one.headers)
            if size > limit_bytes:
                raise Reject(
                    "too_large", f"its {one.task} label takes {size} bytes, the limit is {limit_bytes}"
                )

    def decide(self, group: Sequence[Submission[MediaWork]]) -> Effects:
        effects = Effects()
        partitions = self.services.settings.topics.partitions
        for submission in group:
            batch, work = submission.batch, submission.work
            if work.labels:
                effects.outputs.append(_labels_emit(work.labels, batch.partition % partitions))
                self.metrics.published(LABELS, len(work.labels))
                for label in work.labels:
                    self.services.metrics.labels.labels(label.task).inc()
            self._retry(effects, batch.partition, work.failed)
            self.reject(effects, batch.partition, work.rejected)
        return effects

    def _retry(self, effects: Effects, partition: int, failed: Sequence[Failed]) -> None:
        emit = retries(self.source, partition, failed, self.services.clock.wall_ms())
        if emit is None:
            return
        effects.outputs.append(emit)
        self.metrics.published(emit.topic, len(failed))
        for one in failed:
            self.metrics.retried(one.rejected.reason, one.wait_s)

    async def stop(self) -> None:
        for task in self._batches:
            task.cancel()
        if self._batches:
            await asyncio.wait(self._batches, timeout=1.0)


class AudioAgent(MediaAgent):
    """Recordings: speech to text."""

    name = "audio"
    topic = AUDIO
    companions: ClassVar[tuple[str, ...]] = ("audio-retry",)
    tasks = ("transcribe",)


class UploadsAgent(MediaAgent):
    """Texts and pictures: sentiment and tags."""

    name = "uploads"
    topic = UPLOADS
    companions: ClassVar[tuple[str, ...]] = ("uploads-retry",)
    tasks = ("sentiment", "tag")


def label_of(
    event: Media, finding: Finding, model: ModelInfo, because: Because, at_ms: int, timing: dict[str, float]
) -> Label:
    """A finding as it is published. The id depends on event, task and revision alone.

    `model` is the task's own.
    """
    value: Any = finding.value
    detail: Any = finding.detail
    model = finding.model or model  # of a task with several
    return Label(
        id=str(uuid.uuid5(NAMESPACE, f"{event.id}\x00{finding.task}\x00{model.revision}")),
        asset=event.asset,
        task=finding.task,
        at=at_ms,
        model=ModelName(model.name, model.revision, model.dtype, model.sha256),
        value=value,
        because=because,
        timing=timing,
        score=finding.score,
        scores=finding.scores,
        spans=[LabelSpan(s.start, s.end, str(s.value), s.score) for s in finding.spans],
        detail=detail,
    )


def record_of(label: Label) -> LabelRecord:
    """A label as it is published."""
    headers = [
        ("ce_type", LABEL.encode()),
        ("ce_id", label.id.encode()),
        ("ce_source", SOURCE.encode()),
        ("ce_specversion", b"1.0"),
        ("content-type", b"application/json"),
    ]
    return LabelRecord(label.task, label.asset.encode(), encode(label), headers)


def _labels_emit(labels: Sequence[LabelRecord], partition: int) -> Emit:
    return Emit(
        LABELS,
        partition,
        keys=[label.key for label in labels],
        values=[label.value for label in labels],
        headers=[label.headers for label in labels],
    )
