"""Opened payloads to labels: every task that reads a payload looks at it, and what it finds may be looked at by others
(`models.inference.chains`). One label id a step.

Many payloads go together: one call of the engine a task for all of them, then one for what follows, so that a payload
costs no future and no turn of the loop of its own.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from models.errors import ModelError
from models.inference.batching import Lane
from models.inference.chains import Step, next_steps
from models.registry import task_class
from models.types import Payload
from streams.clock import Clock
from streams.errors import Reject, Retry
from streams.events import Because, Media
from streams.inference.answers import Answer
from streams.inference.labels import LabelRecord, labels_of
from streams.inference.request import Result
from streams.inference.service import InferenceService
from streams.traces import Traced

Unlabelled = ModelError | Retry | Reject
"""Why a payload has no labels."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A record whose payload is here, and the seconds that it took until then."""

    event: Media
    payload: Payload
    because: Because
    traced: Traced
    wait_s: float
    fetch_s: float


@dataclass(slots=True, eq=False)
class _Node:
    """One step of one payload; those that look at what it found come after it."""

    opened: Opened
    step: Step
    labels: list[LabelRecord] = field(default_factory=list)
    after: "list[_Node]" = field(default_factory=list)
    error: ModelError | Retry | None = None

    def all_labels(self) -> list[LabelRecord]:
        """Its own, then those of each step that followed, first to last."""
        return [*self.labels, *(label for node in self.after for label in node.all_labels())]


class Labelling:
    """The tasks of one agent. Make it when they are warm: what they import is imported."""

    def __init__(self, inference: InferenceService, clock: Clock, lane: Lane, tasks: Sequence[str]) -> None:
        self._inference = inference
        self._clock = clock
        self._lane = lane
        self._accepts: list[tuple[str, Callable[[str], bool]]] = [
            (name, task_class(name).accepts) for name in tasks
        ]
        self._after: dict[str, Mapping[str, str]] = {
            name: getattr(task_class(name), "after", {}) for name in tasks
        }

    def tasks_for(self, media_type: str) -> list[str]:
        """Those that read it, in order."""
        return [name for name, accepts in self._accepts if accepts(media_type)]

    async def label(self, opened: Sequence[Opened]) -> list[list[LabelRecord] | Unlabelled]:
        """Of each, in order: the labels of all tasks, or the error of the first that gave none. A later step that
        fails costs its own label alone. Raises InferenceFailed and InferenceClosed."""
        firsts = [
            [_Node(one, Step(name, one.payload)) for name in self.tasks_for(one.event.media_type)]
            for one in opened
        ]
        wave = [node for nodes in firsts for node in nodes]
        while wave:
            await self._run(wave)
            wave = [later for node in wave for later in node.after]
        return [_joined(nodes) for nodes in firsts]

    async def _run(self, nodes: Sequence[_Node]) -> None:
        """One wave: all tasks at once."""
        by_task: defaultdict[str, list[_Node]] = defaultdict(list)
        for node in nodes:
            by_task[node.step.task].append(node)
        calls = [
            self._inference.submit_all(task, [node.step.payload for node in its], self._lane)
            for task, its in by_task.items()
        ]
        answered = await asyncio.gather(*calls) if len(calls) > 1 else [await calls[0]]
        at_ms = self._clock.wall_ms()
        for its, results in zip(by_task.values(), answered, strict=True):
            for node, result in zip(its, results, strict=True):
                self._told(node, result, at_ms)

    def _told(self, node: _Node, result: Result, at_ms: int) -> None:
        if not isinstance(result, Answer):
            node.error = result
            return
        model = self._inference.model(node.step.task)
        opened, findings = node.opened, result.outcome.findings
        stages = _stages(result)
        opened.traced.step(f"infer {node.step.task}", sum(stages.values()), **stages)
        timing = {"wait_s": round(opened.wait_s, 6), "fetch_s": round(opened.fetch_s, 6), **stages}
        node.labels = labels_of(opened.event, node.step, findings, model, opened.because, at_ms, timing)
        steps = next_steps(node.step, result.outcome, self._after)
        node.after = [_Node(opened, step) for step in steps]


def _joined(firsts: Sequence[_Node]) -> list[LabelRecord] | Unlabelled:
    """All of a payload's, or none."""
    records: list[LabelRecord] = []
    for node in firsts:
        error = node.error or _interrupted(node)
        if error is not None:
            return error
        records += node.all_labels()
    return records


def _interrupted(node: _Node) -> Retry | None:
    """A later step that may pass when it is tried again; other errors were counted by the engine."""
    for later in node.after:
        found = later.error if isinstance(later.error, Retry) else _interrupted(later)
        if found is not None:
            return found
    return None


def _stages(answer: Answer) -> dict[str, float]:
    """Seconds of inference, in the order in which they were spent."""
    stages = answer.stages
    return {
        "room_s": round(stages.room_s, 6),
        "prepare_s": round(stages.prepare_s, 6),
        "queue_s": round(stages.queue_s, 6),
        "device_s": round(stages.device_s, 6),
        "finish_s": round(stages.finish_s, 6),
    }
