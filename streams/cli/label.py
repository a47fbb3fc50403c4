"""`headrace label`: one inference task on local files, with no Kafka."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.context import Json, print_json, settings_of
from streams.cli.progress import bar
from streams.errors import EnvironmentProblem, UserMistake

if TYPE_CHECKING:
    from models.errors import ModelError
    from models.types import Outcome, Payload, Task
    from streams.sections.media import Media

app = typer.Typer()
STDIN = "-"
SHOWN_PASSED_OVER = 5


@app.command(epilog="Example: headrace label sentiment reviews.txt --lines --json")
def label(
    ctx: typer.Context,
    task: Annotated[
        str, typer.Argument(help="transcribe, tag, sentiment, topics, entities, safety, ocr, embed.")
    ],
    paths: Annotated[list[str], typer.Argument(help="Files and folders; - reads lines of text from stdin.")],
    lines: Annotated[bool, typer.Option(help="Label each line of a text file by itself.")] = False,
    as_json: Json = False,
) -> None:
    """Run a task on local files and print a line a finding. Exit code 1 when a file could not be labelled."""
    from models.errors import ModelError
    from models.registry import TASKS, task_class

    if task not in TASKS:
        raise UserMistake(f"there is no task {task!r}; there are {', '.join(TASKS)}")
    media = settings_of(ctx).media
    read = _Reading(media.max_payload_bytes, lines, task_class(task).accepts)
    payloads = read.all(paths)
    first = next(payloads, None)  # a missing file shows before a model is loaded
    failed = 0
    if first is not None:
        loaded = load_task(task, task_class(task), media)
        with bar(task) as progress:
            for done, (name, outcome) in enumerate(_in_order(loaded, _chained(first, payloads), read), 1):
                failed += isinstance(outcome, ModelError)
                _show(name, outcome, loaded, as_json)
                progress(done, len(read.names) if read.exhausted else 0)
    for name, reason, message in read.refused:
        failed += 1
        _refuse(name, reason, message, as_json)
    if read.passed_over:
        _say_passed_over(task, read.passed_over)
    if first is None and not failed:
        raise EnvironmentProblem(f"nothing for {task} in {', '.join(paths)}")
    raise typer.Exit(1 if failed else 0)


def load_task(name: str, task: "type[Task]", media: "Media") -> "Task":
    """The task as the worker would load it: settings' folder, options, device and number format."""
    import torch

    from models.types import LoadOptions

    torch.set_num_threads(media.threads)
    chosen = media.tasks.get(name)
    return task.load(
        LoadOptions(
            cache=media.cache,
            folder=chosen.folder if chosen else None,
            device=media.device,
            dtype=media.dtype,  # as the worker does: the same file must get the same label
            options=dict(chosen.options) if chosen else {},
        )
    )


@dataclass
class _Reading:
    """Payloads from paths, with the names they are shown under.

    A file that the task does not read is refused where it was named, and passed over where a folder was.
    """

    max_bytes: int
    lines: bool
    accepts: Callable[[str], bool]

    def __post_init__(self) -> None:
        self.names: list[str] = []
        self.refused: list[tuple[str, str, str]] = []  # name, reason, message
        self.passed_over: list[str] = []
        self.exhausted = False  # all names are known

    def all(self, paths: list[str]) -> Iterator["Payload"]:
        yield from self._each(paths)
        self.exhausted = True

    def _each(self, paths: list[str]) -> Iterator["Payload"]:
        from streams.feed.media import media_files

        for given in paths:
            if given == STDIN:
                yield from self._lines(STDIN, sys.stdin.buffer.read(self.max_bytes))
                continue
            for path, _ in media_files([Path(given)]):
                yield from self._file(path, named=path == Path(given))

    def _file(self, path: Path, named: bool) -> Iterator["Payload"]:
        from streams.feed.media import media_type_of

        try:
            if path.stat().st_size > self.max_bytes:
                limit = f"larger than media.max_payload_bytes, {self.max_bytes}"
                self.refused.append((str(path), "too_large", limit))
                return
            data, media_type = path.read_bytes(), media_type_of(path) or "application/octet-stream"
        except OSError as error:
            self.refused.append((str(path), "unreadable", error.strerror or str(error)))
            return
        if data and not self.accepts(media_type):  # an empty file is the task's to refuse
            if named:
                self.refused.append((str(path), "unsupported", f"this task does not read {media_type}"))
            else:
                self.passed_over.append(str(path))
            return
        if self.lines:
            yield from self._lines(str(path), data)
        else:
            yield self._payload(str(path), media_type, data)

    def _lines(self, name: str, data: bytes) -> Iterator["Payload"]:
        for number, line in enumerate(data.splitlines(), 1):
            if line.strip():
                yield self._payload(f"{name}:{number}", "text/plain", line)

    def _payload(self, name: str, media_type: str, data: bytes) -> "Payload":
        from models.types import Payload

        self.names.append(name)
        return Payload(media_type, data)


def _chained(first: "Payload", rest: Iterator["Payload"]) -> Iterator["Payload"]:
    yield first
    yield from rest


def _in_order(
    task: "Task", payloads: Iterator["Payload"], read: _Reading
) -> Iterator[tuple[str, "Outcome | ModelError"]]:
    """Results in the input's order; what overtook waits, at most two windows of units."""
    from models.inference.offline import label_all

    early: dict[int, Outcome | ModelError] = {}
    following = 0
    for index, outcome in label_all(task, payloads):
        early[index] = outcome
        while following in early:
            yield read.names[following], early.pop(following)
            following += 1


def _show(name: str, outcome: "Outcome | ModelError", task: "Task", as_json: bool) -> None:
    from models.errors import BadInput, ModelError
    from streams.demo.board import value_words

    if isinstance(outcome, ModelError):
        reason = outcome.reason if isinstance(outcome, BadInput) else type(outcome).__name__
        _refuse(name, reason, str(outcome), as_json)
        return
    for finding in outcome.findings:
        if as_json:
            print_json({"path": name, **asdict(finding), "model": asdict(finding.model or task.model)})
        else:
            score = "" if finding.score is None else f" {finding.score:.3f}"
            value = finding.value if isinstance(finding.value, str) else value_words(finding.value)
            typer.echo(f"{name}: {finding.task} {value}{score}")


def _say_passed_over(task: str, names: list[str]) -> None:
    files = "a file" if len(names) == 1 else f"{len(names)} files"
    shown = ", ".join(Path(name).name for name in names[:SHOWN_PASSED_OVER])
    more = ", …" if len(names) > SHOWN_PASSED_OVER else ""
    typer.echo(f"passed over {files} that {task} does not read: {shown}{more}", err=True)


def _refuse(name: str, reason: str, message: str, as_json: bool) -> None:
    row: dict[str, Any] = {"path": name, "error": reason, "message": message}
    if as_json:
        print_json(row)
    else:
        typer.echo(f"{name}: {reason}: {message}", err=True)
