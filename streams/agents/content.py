"""Content: from labels of assets to what the item agent knows of them, so that an upload can be listed before its first
click.

An `embed` label is the vector itself; a transcript, the text in a picture, and tags joined to a text, are embedded
here. A `safety` label that blocks keeps the item out of all lists until one of the same step does not
(`models.taste.items.bars`). Other labels say nothing of what an asset is about. An asset is the item of the same name.
Written by workers, labels have no dead-letter topic: one that cannot be used is counted by reason and named in the log.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from models.errors import BadInput, ModelError
from models.taste.items.bars import told
from models.taste.items.contents import pack
from models.taste.readers.transitions import CONTENT
from models.types import Payload
from streams.agents.base import Services, TaskAgent
from streams.codecs import LabelDecoder
from streams.effects import Effects, Emit
from streams.events import Label
from streams.inference.answers import Answer
from streams.inference.request import Result
from streams.taste.transitions import partition_of
from streams.topology.topics import LABELS, TRANSITIONS
from streams.transport.batch import PartitionBatch
from streams.transport.consumer import Profile
from streams.transport.durable import Submission

log = logging.getLogger(__name__)

AT_ONCE = 64  # texts of a group on its way to the device
GROUPS_AT_ONCE = 2
TEXT_CHARS = 4_000  # more than the encoder reads


@dataclass(slots=True)
class ContentWork:
    """Records of one batch: items and what they are about, or bars."""

    names: list[str] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)


class ContentAgent(TaskAgent[ContentWork]):
    """Topic `labels` to `transitions`."""

    name = "content"
    topic = LABELS
    tasks = ("embed",)

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._decode = LabelDecoder()
        self._slots = asyncio.Semaphore(GROUPS_AT_ONCE)

    def profile(self) -> Profile:
        reader = self.services.settings.reader
        return Profile(
            max_records=reader.max_poll_records,
            fetch_wait_ms=max(reader.fetch_max_wait_ms, 50),
            batches_in_flight=4,
        )

    async def work_on(self, batch: PartitionBatch) -> None:
        labels, rejected = self._decode(batch.records)
        for one in rejected:
            self._left_out(one.reason, f"offset {one.record.offset}: {one.message}")
        made = await self._contents(labels)
        found = [(label.asset, value) for label, value in zip(labels, made, strict=True) if value is not None]
        if not batch.lost:
            self.submit(batch, ContentWork([name for name, _ in found], [value for _, value in found]))

    async def _contents(self, labels: Sequence[Label]) -> list[bytes | None]:
        """Of each: the packed vector, or a bar; None for one that says nothing or nothing of use. Raises
        InferenceClosed."""
        made = [self._said(label) for label in labels]
        texts = [(place, text) for place, label in enumerate(labels) if (text := text_of(label))]
        for start in range(0, len(texts), AT_ONCE):
            some = texts[start : start + AT_ONCE]
            payloads = [Payload("text/plain", text.encode()) for _, text in some]
            async with self._slots:
                results = await self.services.inference.submit_all("embed", payloads)
            for (place, _), result in zip(some, results, strict=True):
                made[place] = self._embedded(labels[place], result)
        return made

    def _said(self, label: Label) -> bytes | None:
        """What a label says by itself."""
        if label.task == "safety":
            # One step of one model: the text in a picture, and the picture itself, are judged apart.
            return told(">".join((*label.via, label.model.name)), blocked=label.value == "block")
        if label.task != "embed":
            return None
        try:
            return pack(_numbers(label), _revision(label.model.name, label.model.revision), label.author)
        except ModelError as error:
            self._useless(label, error)
            return None

    def _embedded(self, label: Label, result: Result) -> bytes | None:
        """What its text says, as a vector."""
        if not isinstance(result, Answer):
            self._useless(label, result)
            return None
        model = self.services.inference.model("embed")
        try:
            vector = np.array(result.outcome.findings[0].value, np.float32)
            return pack(vector, _revision(model.name, model.revision), label.author)
        except ModelError as error:
            self._useless(label, error)
            return None

    def _useless(self, label: Label, error: Exception) -> None:
        reason = error.reason if isinstance(error, BadInput) else "failed"
        self._left_out(reason, f"label {label.id} of {label.asset}: {error}")

    def _left_out(self, reason: str, what: str) -> None:
        self.services.metrics.contents_left_out.labels(reason).inc()
        log.warning("a label gives no content: %s (%s)", what, reason)

    def decide(self, group: Sequence[Submission[ContentWork]]) -> Effects:
        effects = Effects()
        partitions = self.services.settings.topics.partitions
        by_partition: dict[int, list[tuple[str, bytes]]] = {}
        for submission in group:
            for name, value in zip(submission.work.names, submission.work.values, strict=True):
                by_partition.setdefault(partition_of(name, partitions), []).append((name, value))
        for partition, found in sorted(by_partition.items()):
            keys = [name.encode() for name, _ in found]
            effects.outputs.append(
                Emit(TRANSITIONS, partition, keys, [CONTENT + value for _, value in found])
            )
            self.metrics.published(TRANSITIONS, len(found))
        return effects


def text_of(label: Label) -> str:
    """What a label of another task than `embed` says in words; empty where it says nothing of the content."""
    value = label.value
    if label.task in ("transcribe", "ocr") and isinstance(value, str):
        return value.strip()[:TEXT_CHARS]
    if label.task == "tag":
        names = [value] if isinstance(value, str) else [str(one.get("tag", "")) for one in _rows(value)]
        return ", ".join(filter(None, names))[:TEXT_CHARS]
    return ""


def _rows(value: object) -> list[dict[str, object]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _numbers(label: Label) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    """Raises BadInput."""
    try:
        return np.array(label.value, np.float32).reshape(-1)
    except (TypeError, ValueError) as error:
        raise BadInput("bad_vector", "the value of an embed label is no list of numbers") from error


def _revision(name: str, revision: str) -> str:
    return f"{name}@{revision}"
