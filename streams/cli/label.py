"""`headrace label`: one inference task on local files, with no Kafka."""

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.context import Json, print_json, settings_of
from streams.errors import UserMistake

if TYPE_CHECKING:
    from models.errors import ModelError
    from models.types import Outcome, Payload, Task
    from streams.settings import Media

app = typer.Typer()
STDIN = "-"


@app.command(epilog="Example: headrace label sentiment reviews.txt --lines --json")
def label(
    ctx: typer.Context,
    task: Annotated[str, typer.Argument(help="transcribe, tag, sentiment.")],
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
    read = _Reading(media.max_payload_bytes, lines)
    payloads = read.all(paths)
    first = next(payloads, None)  # a missing file shows before a model is loaded
    failed = 0
    if first is not None:
        loaded = _load(task, task_class(task), media)
        for name, outcome in _in_order(loaded, _chained(first, payloads), read):
            failed += isinstance(outcome, ModelError)
            _show(name, outcome, loaded, as_json)
    for name, message in read.refused:
        failed += 1
        _refuse(name, "unreadable", message, as_json)
    raise typer.Exit(1 if failed else 0)


def _load(name: str, task: "type[Task]", media: "Media") -> "Task":
    import torch

    from models.types import LoadOptions

    torch.set_num_threads(media.threads)
    chosen = media.tasks.get(name)
    return task.load(
        LoadOptions(
            cache=media.cache,
            folder=chosen.folder if chosen else None,
            device=media.device,
            options=dict(chosen.options) if chosen else {},
        )
    )


@dataclass
class _Reading:
    """Payloads from paths, with the names they are shown under."""

    max_bytes: int
    lines: bool

    def __post_init__(self) -> None:
        self.names: list[str] = []
        self.refused: list[tuple[str, str]] = []

    def all(self, paths: list[str]) -> Iterator["Payload"]:
        from streams.feed.media import media_files

        for given in paths:
            if given == STDIN:
                yield from self._lines(STDIN, sys.stdin.buffer.read(self.max_bytes))
                continue
            for path, _ in media_files([Path(given)]):
                yield from self._file(path)

    def _file(self, path: Path) -> Iterator["Payload"]:
        from streams.feed.media import media_type_of

        try:
            if path.stat().st_size > self.max_bytes:
                self.refused.append((str(path), f"larger than media.max_payload_bytes, {self.max_bytes}"))
                return
            data, media_type = path.read_bytes(), media_type_of(path) or "application/octet-stream"
        except OSError as error:
            self.refused.append((str(path), str(error)))
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
            print_json({"path": name, **asdict(finding), "model": asdict(task.model)})
        else:
            score = "" if finding.score is None else f" {finding.score:.3f}"
            value = finding.value if isinstance(finding.value, str) else value_words(finding.value)
            typer.echo(f"{name}: {finding.task} {value}{score}")


def _refuse(name: str, reason: str, message: str, as_json: bool) -> None:
    row: dict[str, Any] = {"path": name, "error": reason, "message": message}
    if as_json:
        print_json(row)
    else:
        typer.echo(f"{name}: {reason}: {message}", err=True)
