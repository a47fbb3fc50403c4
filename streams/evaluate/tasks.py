"""`headrace evaluate TASK FILE`: run a task over inputs with references, by the engine's own batches, and score it."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import BadInput, ModelError
from models.evaluate.labelled import Classified, Ranked, classified, ranked
from models.evaluate.spans import Marked, Spanned, spanned
from models.evaluate.words import ErrorRate, error_rate
from models.inference.offline import label_all
from models.types import Outcome, Payload, Task
from streams.errors import UserMistake
from streams.evaluate.references import Reference, read_references

if TYPE_CHECKING:
    from models.types import ModelInfo

SPOKEN = ("transcribe", "ocr")
RANKED = ("tag",)
CLASSES = ("sentiment", "topics", "safety")
SPANS = ("entities",)
# Scripts without spaces between words are compared by character.
_BY_CHARACTER = "\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f"
_FAILED = "error"


Figures = Classified | Ranked | ErrorRate | Spanned


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What came out. `failed`: (line, reason, message) of inputs that got no label; they count as wrong."""

    task: str
    model: "ModelInfo"
    path: Path
    inputs: int
    figures: Figures
    failed: tuple[tuple[int, str, str], ...]
    unsupported: int
    wrong: tuple[tuple[int, str, str], ...]  # line, right, given


def evaluate_task(
    task: Task,
    path: Path,
    names: Mapping[str, str],
    max_bytes: int,
    seed: int,
    progress: Callable[[int, int], None],
) -> Evaluated:
    """Score `task` on the references in a file; `names`: what a reference is called by the task.

    Raises EnvironmentProblem and UserMistake as `read_references`, UserMistake for a task without references.
    """
    if task.name not in (*SPOKEN, *RANKED, *CLASSES, *SPANS):
        raise UserMistake(f"{task.name} gives no answer that is right or wrong")
    references = read_references(path, of_files=not task.accepts("text/plain"))
    _check_kind(task.name, path, references)
    right = [_right(one, names) for one in references]
    answers: list[Outcome | ModelError] = [BadInput("empty", "no answer")] * len(references)
    labelled = label_all(task, _payloads(references, max_bytes))
    for done, (index, outcome) in enumerate(labelled, 1):
        answers[index] = outcome
        progress(done, len(references))
    marked = [_marked(answer) for answer in answers]
    given = [
        [_said(marks)]
        if task.name in SPANS and not isinstance(answer, ModelError)
        else _ranked_values(answer)
        for answer, marks in zip(answers, marked, strict=True)
    ]
    wrong = [
        (one.line, label, values[0] if values else "")
        for one, label, values in zip(references, right, given, strict=True)
        if label != (values[0] if values else "")
    ]
    return Evaluated(
        task=task.name,
        model=task.model,
        path=path,
        inputs=len(references),
        figures=_span_figures(references, names, marked, seed)
        if task.name in SPANS
        else _figures(task.name, right, given, seed),
        failed=tuple(
            (one.line, answer.reason if isinstance(answer, BadInput) else type(answer).__name__, str(answer))
            for one, answer in zip(references, answers, strict=True)
            if isinstance(answer, ModelError)
        ),
        unsupported=sum(_ranked_values(answer)[:1] == ["unsupported_language"] for answer in answers),
        wrong=tuple(wrong),
    )


def _check_kind(task: str, path: Path, references: Sequence[Reference]) -> None:
    for one in references:
        if (one.spans is None) == (task in SPANS):
            wanted = "a list of [start, end, kind]" if task in SPANS else "a word or text"
            raise UserMistake(f"{path}, line {one.line}: label is not {wanted}, as {task} needs")


def _right(one: Reference, names: Mapping[str, str]) -> str:
    if one.spans is None:
        return names.get(one.label, one.label)
    return _said([(start, end, names.get(kind, kind)) for start, end, kind in one.spans])


def _said(marks: Sequence[Marked]) -> str:
    return ", ".join(f"{start}-{end} {kind}" for start, end, kind in sorted(marks))


def _marked(answer: Outcome | ModelError) -> list[Marked]:
    """The spans of an answer; none of an error."""
    if isinstance(answer, ModelError) or not answer.findings:
        return []
    return [(int(span.start), int(span.end), str(span.value)) for span in answer.findings[0].spans]


def _span_figures(
    references: Sequence[Reference],
    names: Mapping[str, str],
    marked: Sequence[Sequence[Marked]],
    seed: int,
) -> Spanned:
    right = [
        [(start, end, names.get(kind, kind)) for start, end, kind in one.spans or ()] for one in references
    ]
    try:
        return spanned(right, marked, seed)
    except ValueError as error:
        raise UserMistake(f"the references cannot be scored: {error}") from None


def _payloads(references: Sequence[Reference], max_bytes: int) -> Iterator[Payload]:
    for one in references:
        media_type, data = one.data(max_bytes)
        yield Payload(media_type, data, one.language)


def _figures(
    task: str, right: Sequence[str], given: Sequence[Sequence[str]], seed: int
) -> Classified | Ranked | ErrorRate:
    first = [values[0] if values else _FAILED for values in given]
    try:
        if task in RANKED:
            return ranked([name.lower() for name in right], [[v.lower() for v in each] for each in given])
        if task in CLASSES:
            return classified(right, first, seed)
        pairs = [(said, values[0] if values else "") for said, values in zip(right, given, strict=True)]
        return error_rate(pairs, _without_spaces("".join(right)), seed)
    except ValueError as error:
        raise UserMistake(f"the references cannot be scored: {error}") from None


def _without_spaces(text: str) -> bool:
    letters = [char for char in text if char.isalpha()]
    return 2 * len(re.findall(f"[{_BY_CHARACTER}]", text)) > len(letters)


def _ranked_values(answer: Outcome | ModelError) -> list[str]:
    """The answer, or all of a ranked one, best first; nothing of an error."""
    if isinstance(answer, ModelError) or not answer.findings:
        return []
    value: Any = answer.findings[0].value
    if isinstance(value, list):
        return [str(entry.get("tag", "")) if isinstance(entry, dict) else str(entry) for entry in value]
    return [str(value)]
