"""Labels as they are published: what a task found, by which weights, in which record, and how long each stage took."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from models.inference.chains import Step
from models.types import Finding, ModelInfo
from streams.codecs import encode
from streams.effects import Emit, Header
from streams.events import LABEL, SOURCE, Because, Label, LabelSpan, Media, ModelName
from streams.topology.topics import LABELS

NAMESPACE = uuid.UUID("6b1f7c1e-6f0a-5c0e-9d2a-6b6561647261")


@dataclass(frozen=True, slots=True)
class LabelRecord:
    """A label as it is published."""

    task: str
    key: bytes
    value: bytes
    headers: list[Header]


def labels_of(
    event: Media,
    step: Step,
    findings: Sequence[Finding],
    model: ModelInfo,
    because: Because,
    at_ms: int,
    timing: dict[str, float],
) -> list[LabelRecord]:
    """The findings of one step of one record. `model` is the task's own; a finding may name another."""
    seen: dict[str, int] = {}
    records = []
    for finding in findings:
        number = seen[finding.task] = seen.get(finding.task, -1) + 1
        named = finding.model or model
        name = _step_name(step, finding.task, number)
        records.append(_record(_label(event, step, finding, named, because, at_ms, timing, name)))
    return records


def _step_name(step: Step, task: str, number: int) -> str:
    """What tells the labels of one event and revision apart: the way to it, and its place among several."""
    own = step.name.rpartition(">")[2] if step.task == task else task
    name = ">".join((*step.path, own))
    return f"{name}.{number}" if number else name


def _label(
    event: Media,
    step: Step,
    finding: Finding,
    model: ModelInfo,
    because: Because,
    at_ms: int,
    timing: dict[str, float],
    name: str,
) -> Label:
    """The id depends on event, step and revision alone: a replay gives the same."""
    value: Any = finding.value
    detail: Any = finding.detail
    return Label(
        id=str(uuid.uuid5(NAMESPACE, f"{event.id}\x00{name}\x00{model.revision}")),
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
        via=list(step.path),
        author=event.author,
    )


def _record(label: Label) -> LabelRecord:
    headers = [
        ("ce_type", LABEL.encode()),
        ("ce_id", label.id.encode()),
        ("ce_source", SOURCE.encode()),
        ("ce_specversion", b"1.0"),
        ("content-type", b"application/json"),
    ]
    return LabelRecord(label.task, label.asset.encode(), encode(label), headers)


def labels_emit(labels: Sequence[LabelRecord], partition: int) -> Emit:
    """One effect for the labels of a partition batch."""
    return Emit(
        LABELS,
        partition,
        keys=[label.key for label in labels],
        values=[label.value for label in labels],
        headers=[label.headers for label in labels],
    )
