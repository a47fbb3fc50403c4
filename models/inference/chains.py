"""Which tasks look at what another has found: a picture's text through sentiment, say. Pure.

A chain comes about in two ways: a task's outcome asks for another (`follow_ups`), or a task says whose findings it
reads (`after`: task -> the field of its finding, `value` or one of `detail`). Steps are bounded, and none repeats.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from models.types import Finding, FollowUp, Outcome, Payload

MOST_STEPS = 4

After = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Step:
    """One task on one payload; `path`: the tasks whose findings led to it, first to last; `number` tells apart
    several of one task after the same step."""

    task: str
    payload: Payload
    path: tuple[str, ...] = ()
    number: int = 0

    @property
    def name(self) -> str:
        """The same for the same input and settings: part of a label's id. A first step's is its task's name."""
        own = f"{self.task}#{self.number}" if self.number else self.task
        return ">".join((*self.path, own))


def next_steps(step: Step, outcome: Outcome, after: Mapping[str, After]) -> list[Step]:
    """The steps that a finished one leads to, in a fixed order; none beyond `MOST_STEPS` or to a task before it.

    `after`: of each task that may follow, whose findings it reads. A follow-up for a task that is not in it is left
    out: it is not among those that run.
    """
    path = (*step.path, step.name.rpartition(">")[2])
    if len(path) >= MOST_STEPS:
        return []
    been = {name.partition("#")[0] for name in path}
    asked = list(outcome.follow_ups)
    for finding in outcome.findings:
        asked += [
            FollowUp(task, payload)
            for task, reads in after.items()
            if finding.task in reads and (payload := _text_of(finding, reads[finding.task])) is not None
        ]
    steps: list[Step] = []
    seen: dict[str, int] = {}
    for one in asked:
        if one.task in been or one.task not in after:
            continue
        number = seen[one.task] = seen.get(one.task, -1) + 1
        steps.append(Step(one.task, one.payload, path, number))
    return steps


def _text_of(finding: Finding, field: str) -> Payload | None:
    """The named field as a text, or None where there is none."""
    text = finding.value if field == "value" else finding.detail.get(field)
    if not isinstance(text, str) or not text.strip():
        return None
    language = finding.detail.get("language")
    return Payload("text/plain", text.encode(), language if isinstance(language, str) else None)
