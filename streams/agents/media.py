"""Audio and uploads: every task that accepts the media type looks at the payload; each finding becomes a label.

Records of a batch whose payloads are at hand are worked on together (`streams.agents.labelling`); the batch is
submitted when all of its labels are there. Several batches are in flight; the ledger commits only the contiguous
finished prefix.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from models.errors import BadInput, ModelError
from models.inference.batching import Lane
from streams.agents.base import Services, TaskAgent
from streams.agents.labelling import Labelling, Opened, Unlabelled
from streams.claims.payloads import Payloads, size_of
from streams.codecs import MediaDecoder
from streams.effects import Effects, batch_bytes
from streams.errors import REASONS, Reject, Retry
from streams.events import Because, ClaimCheck, Media
from streams.inference.admission import Admission
from streams.inference.labels import LabelRecord, labels_emit
from streams.refusals.rejected import Rejected, rejected_by
from streams.refusals.retries import Failed, retries, retry_of
from streams.sections.media import LaneSettings
from streams.topology.topics import AUDIO, LABELS, UPLOADS, retry
from streams.transport.batch import PartitionBatch, Record
from streams.transport.consumer import Profile
from streams.transport.durable import Submission

BATCH_RECORDS = 64
AUDIO_IN_FLIGHT = 64  # recordings of a partition, each a batch


@dataclass(slots=True)
class MediaWork:
    """What became of one batch."""

    labels: list[LabelRecord] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)  # to be tried again

    def add(self, made: "_Made") -> None:
        """Of one record."""
        if isinstance(made, Rejected):
            self.rejected.append(made)
        elif isinstance(made, Failed):
            self.failed.append(made)
        else:
            self.labels += made


_Made = list[LabelRecord] | Rejected | Failed


class MediaAgent(TaskAgent[MediaWork]):
    """Common to audio and uploads."""

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._media = services.settings.media
        chosen = self._media.lanes.get(self.source, LaneSettings())  # type: ignore[call-overload]
        self._lane = Lane(chosen.priority, chosen.deadline_s)
        self._decoder = MediaDecoder(self._media.max_payload_bytes)
        self._room = Admission(self._media.records_in_flight, self._media.bytes_in_flight)
        self._payloads: Payloads | None = None
        self._labelling: Labelling | None = None

    async def start(self) -> None:
        """The tasks are warm: what they import is imported."""
        services = self.services
        self._labelling = Labelling(services.inference, services.clock, self._lane, self.tasks)
        self._payloads = Payloads(self._media)
        self._payloads.start()

    def profile(self) -> Profile:
        reader = self.services.settings.reader
        return Profile(
            max_records=min(BATCH_RECORDS, self._media.records_in_flight),
            fetch_wait_ms=max(reader.fetch_max_wait_ms, 100),
            batches_in_flight=max(4, self._media.records_in_flight // BATCH_RECORDS),
        )

    async def work_on(self, batch: PartitionBatch) -> None:
        events, records, rejected = self._decoder(batch.records)
        sizes = [min(size_of(event), self._media.max_payload_bytes) for event in events]
        # Room before anything is fetched: what is held is bounded in bytes, too. What is at hand and has room at once
        # goes together; what has to be fetched or to wait goes by itself, and holds nothing up.
        at_hand = [n for n, event in enumerate(events) if not isinstance(event.payload, ClaimCheck)]
        together = at_hand[: self._room.enter_many([sizes[n] for n in at_hand])]
        alone = sorted(set(range(len(events))).difference(together))
        groups = [together] if together else []
        groups += [[n] for n in alone]
        made = await asyncio.gather(
            *(
                self._label_group(
                    batch,
                    [(events[n], records[n]) for n in group],
                    sum(sizes[n] for n in group),
                    entered=group is together,
                )
                for group in groups
            )
        )
        outcomes = {
            n: one
            for group, ones in zip(groups, made, strict=True)
            for n, one in zip(group, ones, strict=True)
        }
        work = MediaWork(rejected=rejected)
        for n in range(len(events)):
            work.add(outcomes[n])
        if not batch.lost:
            self.submit(batch, work)

    async def _label_group(
        self,
        batch: PartitionBatch,
        group: Sequence[tuple[Media, Record]],
        size_bytes: int,
        *,
        entered: bool,
    ) -> list[_Made]:
        """Of each: labels in the order of tasks, or why there are none. `entered`: room was taken for all of it; else
        it is one record. Raises InferenceClosed."""
        if not entered:
            await self._room.enter(size_bytes)
        try:
            assert self._labelling is not None  # made by `start`
            opened = [await self._open(batch, event, record) for event, record in group]
            ready = [one for one in opened if isinstance(one, Opened)]
            labelled = iter(await self._labelling.label(ready))
            return [
                self._made(batch, record, one, next(labelled) if isinstance(one, Opened) else one)
                for (_, record), one in zip(group, opened, strict=True)
            ]
        finally:
            self._room.resize(-len(group), -size_bytes)

    async def _open(self, batch: PartitionBatch, event: Media, record: Record) -> Opened | Unlabelled:
        """Fetch its payload, if a task reads it."""
        clock, place = self.services.clock, self.place(batch.partition, record)
        started_s = clock.monotonic_s()
        tracing = self.services.tracing
        traced = tracing.begin(self.name, batch.topic, batch.partition, record, batch.read_s)
        assert self._payloads is not None and self._labelling is not None
        try:
            if not self._labelling.tasks_for(event.media_type):
                raise Reject("unsupported", f"no task of {self.name} reads {event.media_type}")
            payload = await self._payloads.open(event)
        except (Reject, Retry, ModelError) as error:
            return error
        fetch_s = clock.monotonic_s() - started_s
        traced.step("fetch", fetch_s)
        because = Because(place.topic, place.partition, place.offset)
        return Opened(event, payload, because, traced, started_s - batch.read_s, fetch_s)

    def _made(
        self,
        batch: PartitionBatch,
        record: Record,
        opened: Opened | Unlabelled,
        labelled: list[LabelRecord] | Unlabelled,
    ) -> _Made:
        """Labels that may leave, a dead letter, or one that is tried again."""
        error = labelled if isinstance(labelled, Exception) else None
        if isinstance(labelled, list) and isinstance(opened, Opened):
            context = opened.traced.sending(LABELS) if labelled else ()
            for label in labelled:
                label.headers.extend(context)
            error = self._too_large(labelled)
            if error is None:
                return labelled
        assert error is not None
        if isinstance(error, Retry):
            rejected = rejected_by(record, error, error.reason)
            limit_bytes = self.services.limit_bytes(retry(self.source))
            place = self.place(batch.partition, record)
            return retry_of(rejected, place, self._media, limit_bytes) or rejected
        # A ModelError without a reason: the device could not take this item even alone.
        reason = error.reason if isinstance(error, Reject | BadInput) else "failed"
        return rejected_by(record, error, reason if reason in REASONS else "failed")

    def _too_large(self, records: Sequence[LabelRecord]) -> Reject | None:
        """All of a record's labels leave, or none."""
        limit_bytes = self.services.settings.kafka.max_message_bytes
        for one in records:
            size = batch_bytes(one.key, one.value, one.headers)
            if size > limit_bytes:
                return Reject(
                    "too_large", f"its {one.task} label takes {size} bytes, the limit is {limit_bytes}"
                )
        return None

    def decide(self, group: Sequence[Submission[MediaWork]]) -> Effects:
        effects = Effects()
        partitions = self.services.settings.topics.partitions
        for submission in group:
            batch, work = submission.batch, submission.work
            if work.labels:
                effects.outputs.append(labels_emit(work.labels, batch.partition % partitions))
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
        await super().stop()
        if self._payloads is not None:
            await self._payloads.close()


class AudioAgent(MediaAgent):
    """Recordings: speech to text. A record is a batch: hours of speech must not hold back its neighbours' labels."""

    name = "audio"
    topic = AUDIO
    companions: ClassVar[tuple[str, ...]] = ("audio-retry",)

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self.tasks = services.settings.media.audio

    def profile(self) -> Profile:
        return replace(super().profile(), max_records=1, batches_in_flight=AUDIO_IN_FLIGHT)


class UploadsAgent(MediaAgent):
    """Texts and pictures: sentiment and tags."""

    name = "uploads"
    topic = UPLOADS
    companions: ClassVar[tuple[str, ...]] = ("uploads-retry",)

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self.tasks = services.settings.media.uploads
