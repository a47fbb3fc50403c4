"""Audio and uploads: every task that accepts the media type looks at the payload; each finding becomes a label.

Records of a batch are worked on together, so that the device sees many at once; the batch is submitted when all of
its labels are there. Several batches are in flight; the ledger commits only the contiguous finished prefix. What a
task finds may be looked at by others (`models.inference.chains`), one label id a step.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from faust.streams import Stream

from models.errors import BadInput, ModelError
from models.inference.batching import Lane
from models.inference.chains import Step, next_steps
from models.registry import task_class
from models.types import Payload
from streams.agents.base import Agent, Services
from streams.codecs import MediaDecoder
from streams.effects import Effects, batch_bytes
from streams.errors import REASONS, Reject, Retry
from streams.events import Because, Media
from streams.inference.admission import Admission
from streams.inference.service import InferenceClosed
from streams.inference.totals import Answer
from streams.labels import LabelRecord, labels_emit, labels_of
from streams.payloads import Payloads, size_of
from streams.rejected import Place, Rejected, rejected_by
from streams.retries import Failed, retries, retry_of
from streams.sections.media import LaneSettings
from streams.topics import AUDIO, LABELS, UPLOADS, retry
from streams.traces import Traced
from streams.transport.batch import PartitionBatch, Record
from streams.transport.commit import Submission
from streams.transport.consumer import Profile

BATCH_RECORDS = 64
AUDIO_IN_FLIGHT = 64  # recordings of a partition, each a batch


@dataclass(slots=True)
class MediaWork:
    """What became of one batch."""

    labels: list[LabelRecord] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)  # to be tried again


@dataclass(frozen=True, slots=True)
class _Opened:
    """A record whose payload is here, and the seconds that it took until then."""

    event: Media
    payload: Payload
    because: Because
    wait_s: float
    fetch_s: float


class MediaAgent(Agent[MediaWork]):
    """Common to audio and uploads."""

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._media = services.settings.media
        chosen = self._media.lanes.get(self.source, LaneSettings())  # type: ignore[call-overload]
        self._lane = Lane(chosen.priority, chosen.deadline_s)
        self._decoder = MediaDecoder(self._media.max_payload_bytes)
        self._room = Admission(self._media.records_in_flight, self._media.bytes_in_flight)
        self._payloads: Payloads | None = None
        self._accepts: list[tuple[str, Callable[[str], bool]]] = []
        self._after: dict[str, Mapping[str, str]] = {}
        self._batches: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """The tasks are warm: what they import is imported."""
        self._accepts = [(name, task_class(name).accepts) for name in self.tasks]
        self._after = {name: getattr(task_class(name), "after", {}) for name in self.tasks}
        self._payloads = Payloads(self._media)
        self._payloads.start()

    def profile(self) -> Profile:
        reader = self.services.settings.reader
        return Profile(
            max_records=min(BATCH_RECORDS, self._media.records_in_flight),
            fetch_wait_ms=max(reader.fetch_max_wait_ms, 100),
            fetch_min_bytes=1,
            batches_in_flight=max(4, self._media.records_in_flight // BATCH_RECORDS),
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
        size_bytes = min(size_of(event), self._media.max_payload_bytes)
        await self._room.enter(
            size_bytes
        )  # before anything is fetched: what is held is bounded in bytes, too
        place = self.place(batch.partition, record)
        try:
            traced = self.services.tracing.begin(
                self.name, batch.topic, batch.partition, record, batch.read_s
            )
            return await self._labels(batch, event, place, traced)
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
        finally:
            self._room.resize(-1, -size_bytes)

    async def _labels(
        self, batch: PartitionBatch, event: Media, place: Place, traced: Traced
    ) -> list[LabelRecord]:
        """Those of all tasks, or none: the first error counts. Raises Reject, Retry and ModelError."""
        clock = self.services.clock
        started_s = clock.monotonic_s()
        names = [name for name, accepts in self._accepts if accepts(event.media_type)]
        if not names:
            raise Reject("unsupported", f"no task of {self.name} reads {event.media_type}")
        assert self._payloads is not None  # made by `start`
        payload = await self._payloads.open(event)
        opened = _Opened(
            event,
            payload,
            Because(place.topic, place.partition, place.offset),
            wait_s=started_s - batch.read_s,
            fetch_s=clock.monotonic_s() - started_s,
        )
        traced.step("fetch", opened.fetch_s)
        if len(names) == 1:
            found = [await self._step(opened, Step(names[0], payload), traced)]
        else:
            steps = (self._step(opened, Step(name, payload), traced) for name in names)
            ended = await asyncio.gather(*steps, return_exceptions=True)
            found = []
            for one in ended:
                if isinstance(one, BaseException):
                    raise one
                found.append(one)
        records = [record for made in found for record in made]
        context = traced.sending(LABELS) if records else ()
        for record in records:
            record.headers.extend(context)
        self._check_size(records)
        return records

    async def _step(self, opened: _Opened, step: Step, traced: Traced) -> list[LabelRecord]:
        """The labels of one task and of those that look at what it found. Raises ModelError of the first alone."""
        inference = self.services.inference
        answer = await inference.submit(step.task, step.payload, self._lane)
        stages = _stages(answer)
        traced.step(f"infer {step.task}", sum(stages.values()), **stages)
        records = labels_of(
            opened.event,
            step,
            answer.outcome.findings,
            inference.model(step.task),
            opened.because,
            self.services.clock.wall_ms(),
            _timing(opened, answer),
        )
        for one in next_steps(step, answer.outcome, self._after):
            try:
                records += await self._step(opened, one, traced)
            except ModelError:  # no label of this step; the service has counted it by task and reason
                continue
        return records

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
        for task in self._batches:
            task.cancel()
        if self._batches:
            await asyncio.wait(self._batches, timeout=1.0)
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


def _timing(opened: _Opened, answer: Answer) -> dict[str, float]:
    """Seconds, in the order in which they were spent."""
    return {
        "wait_s": round(opened.wait_s, 6),
        "fetch_s": round(opened.fetch_s, 6),
        **_stages(answer),
    }


def _stages(answer: Answer) -> dict[str, float]:
    """Seconds of inference, in the order in which they were spent."""
    stages = answer.stages
    spent = {
        "room_s": stages.room_s,
        "prepare_s": stages.prepare_s,
        "queue_s": stages.queue_s,
        "device_s": stages.device_s,
        "finish_s": stages.finish_s,
    }
    return {name: round(seconds, 6) for name, seconds in spent.items()}
