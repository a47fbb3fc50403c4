"""Audio and uploads: every task that accepts the media type looks at the payload; each finding becomes a label.

Records of a batch are worked on together, so that the device sees many at once; the batch is submitted when all of
its labels are there. Several batches are in flight; the ledger commits only the contiguous finished prefix.
"""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from faust.streams import Stream

from models.errors import BadInput, ModelError
from models.registry import task_class
from models.types import Finding, ModelInfo
from streams.agents.base import Agent, Services
from streams.codecs import MediaDecoder, Rejected, encode
from streams.effects import Effects, Emit
from streams.errors import REASONS, Fatal, Reject
from streams.events import LABEL, SOURCE, Because, Label, LabelSpan, Media, ModelName
from streams.inference.service import InferenceClosed
from streams.payloads import payload_of
from streams.topics import AUDIO, LABELS, UPLOADS
from streams.transport.batch import PartitionBatch, Record
from streams.transport.commit import Submission
from streams.transport.reader import Profile

NAMESPACE = uuid.UUID("6b1f7c1e-6f0a-5c0e-9d2a-6b6561647261")


@dataclass(slots=True)
class MediaWork:
    """What became of one batch."""

    labels: list[Label]
    rejected: list[Rejected]


class MediaAgent(Agent[MediaWork]):
    """Common to audio and uploads."""

    tasks: ClassVar[tuple[str, ...]]

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._media = services.settings.media
        self._decoder = MediaDecoder(self._media.max_payload_bytes)
        self._slots = asyncio.Semaphore(self._media.records_in_flight)
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
        labels: list[Label] = []
        for outcome in made:
            if isinstance(outcome, Rejected):
                rejected.append(outcome)
            else:
                labels += outcome
        if not batch.lost:
            self.submit(batch, MediaWork(labels, rejected))

    async def _label_record(
        self, batch: PartitionBatch, event: Media, record: Record
    ) -> list[Label] | Rejected:
        """Labels in the order of tasks, or why there are none."""
        async with self._slots:
            started_s = self.services.clock.monotonic_s()
            try:
                names = [name for name, accepts in self._accepts if accepts(event.media_type)]
                if not names:
                    raise Reject("unsupported", f"no task of {self.name} reads {event.media_type}")
                payload = await asyncio.to_thread(
                    payload_of, event, roots=self._media.roots, max_bytes=self._media.max_payload_bytes
                )
                fetched_s = self.services.clock.monotonic_s()
                because = Because(batch.topic, batch.partition, record.offset)
                labels: list[Label] = []
                for name in names:
                    outcome = await self.services.inference.submit(name, payload)
                    if outcome.follow_ups:
                        raise Fatal(f"task {name} asks for others, which this version does not chain")
                    now_s = self.services.clock.monotonic_s()
                    timing = {
                        "wait_s": round(started_s - batch.read_s, 4),
                        "fetch_s": round(fetched_s - started_s, 4),
                        "infer_s": round(now_s - fetched_s, 4),
                    }
                    model = self.services.inference.model(name)
                    labels += [
                        label_of(event, f, model, because, self.services.clock.wall_ms(), timing)
                        for f in outcome.findings
                    ]
                return labels
            except InferenceClosed:  # stopping: whoever reads this batch next labels it
                batch.entry.lost = True
                return []
            except (Reject, BadInput) as error:
                reason = error.reason if error.reason in REASONS else "failed"
                return Rejected(record, reason, str(error))
            except ModelError as error:  # the device could not take this item even alone
                return Rejected(record, "failed", str(error))

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
            self.reject(effects, batch.partition, work.rejected)
        return effects

    async def stop(self) -> None:
        for task in self._batches:
            task.cancel()
        if self._batches:
            await asyncio.wait(self._batches, timeout=1.0)


class AudioAgent(MediaAgent):
    """Recordings: speech to text."""

    name = "audio"
    topic = AUDIO
    tasks = ("transcribe",)


class UploadsAgent(MediaAgent):
    """Texts and pictures: sentiment and tags."""

    name = "uploads"
    topic = UPLOADS
    tasks = ("sentiment", "tag")


def label_of(
    event: Media, finding: Finding, model: ModelInfo, because: Because, at_ms: int, timing: dict[str, float]
) -> Label:
    """A finding as it is published. The id depends on event, task and revision alone."""
    value: Any = finding.value
    detail: Any = finding.detail
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


def _labels_emit(labels: Sequence[Label], partition: int) -> Emit:
    return Emit(
        LABELS,
        partition,
        keys=[label.asset.encode() for label in labels],
        values=[encode(label) for label in labels],
        headers=[
            [
                ("ce_type", LABEL.encode()),
                ("ce_id", label.id.encode()),
                ("ce_source", SOURCE.encode()),
                ("ce_specversion", b"1.0"),
                ("content-type", b"application/json"),
            ]
            for label in labels
        ],
    )
