"""`headrace evaluate TASK FILE`: one command a task, added to those of `headrace evaluate`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.context import Json, print_json, settings_of
from streams.cli.progress import bar
from streams.errors import UserMistake

if TYPE_CHECKING:
    from streams.evaluate.tasks import Evaluated

TASKS = ("transcribe", "tag", "sentiment", "topics", "entities", "safety", "ocr")
SHOWN = 5


def add_to(app: typer.Typer) -> None:
    """Register a command for each task that can be right or wrong."""
    for name in TASKS:
        app.command(
            name,
            help=f"Score {name} against references, with 95 % intervals. FILE: JSON lines of text or path, and label; "
            "or text-or-path<TAB>label.",
            epilog=f"Example: headrace evaluate {name} references.tsv --json",
        )(_command(name))


def _command(name: str) -> Any:
    def evaluate(
        ctx: typer.Context,
        path: Annotated[Path, typer.Argument(metavar="FILE", help="Inputs with references.")],
        names: Annotated[
            str,
            typer.Option(
                metavar="A=B,…", help="What references are called by the task: 0=negative,1=positive."
            ),
        ] = "",
        wrong: Annotated[bool, typer.Option("--wrong", help="List every input that is not right.")] = False,
        seed: Annotated[int, typer.Option(help="Of intervals: the same seed gives the same ones.")] = 7,
        as_json: Json = False,
    ) -> None:
        _evaluate(ctx, name, path, names, wrong, seed, as_json)

    return evaluate


def _evaluate(
    ctx: typer.Context, name: str, path: Path, names: str, wrong: bool, seed: int, as_json: bool
) -> None:
    called = _names(names)
    media = settings_of(ctx).media
    from models.registry import task_class
    from streams.cli.label import load_task
    from streams.evaluate.tasks import evaluate_task

    if not path.is_file():  # before seconds of loading
        raise UserMistake(f"there is no file {path}")
    task = load_task(name, task_class(name), media)
    with bar(name) as progress:
        found = evaluate_task(task, path, called, media.max_payload_bytes, seed, progress)
    if as_json:
        print_json(_document(found, wrong))
        return
    for line in _table(found):
        typer.echo(line)
    for number, reason, message in found.failed[: None if wrong else SHOWN]:
        typer.echo(f"line {number}: {reason}: {message}", err=True)
    for number, right, given in found.wrong if wrong else ():
        typer.echo(f"line {number}: {given!r}, not {right!r}")


def _names(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",") if part]
    if not all(equals and name for name, equals, _ in pairs):
        raise UserMistake(f"--names {text}: write it as a=b,c=d")
    return {name: value for name, _, value in pairs}


def _document(found: "Evaluated", wrong: bool) -> dict[str, Any]:
    return {
        "task": found.task,
        "data": found.path.name,
        "inputs": found.inputs,
        "model": asdict(found.model),
        "figures": asdict(found.figures),
        "unsupported_language": found.unsupported,
        "failed": [{"line": line, "reason": reason, "message": said} for line, reason, said in found.failed],
        "wrong": [{"line": line, "right": right, "given": given} for line, right, given in found.wrong]
        if wrong
        else len(found.wrong),
    }


def _table(found: "Evaluated") -> list[str]:
    from models.evaluate.labelled import Classified, Ranked, Share
    from models.evaluate.spans import Spanned

    def shown(name: str, share: Share) -> str:
        return f"{name} {share.value:.4f} (95 %: {share.low:.4f} to {share.high:.4f})"

    lines = [
        f"{found.task}: {found.inputs} inputs, {found.model.name} {found.model.revision} {found.model.dtype}"
    ]
    figures = found.figures
    if isinstance(figures, Classified):
        lines += [shown("accuracy", figures.accuracy), shown("macro-F1", figures.macro_f1)]
        lines += [
            f"  {one.name}: {one.references} references, precision {one.precision:.3f}, recall {one.recall:.3f}, "
            f"F1 {one.f1:.3f}"
            for one in figures.classes
        ]
        lines += [f"  {right} taken for {given}: {count}" for right, given, count in figures.confused[:SHOWN]]
    elif isinstance(figures, Spanned):
        lines += [
            shown(name, share)
            for name, share in zip(
                ("precision", "recall", "F1"), (figures.precision, figures.recall, figures.f1), strict=True
            )
        ]
        lines += [
            f"  {one.name}: {one.references} references, precision {one.precision:.3f}, recall {one.recall:.3f}, "
            f"F1 {one.f1:.3f}"
            for one in figures.kinds
        ]
    elif isinstance(figures, Ranked):
        lines += [shown("top-1", figures.top1), shown("top-5", figures.top5)]
    else:
        lines += [
            shown(f"{figures.unit} errors", figures.rate),
            f"  {figures.said} {figures.unit}s said in {figures.recordings} inputs: {figures.substituted} substituted, "
            f"{figures.left_out} left out, {figures.put_in} put in; {figures.whole:.3f} of inputs without an error",
        ]
        lines += [f"  {said} heard as {heard}: {count}" for said, heard, count in figures.substitutions]
    if found.unsupported:
        lines.append(f"  {found.unsupported} in a language that the model does not read, counted as wrong")
    if found.failed:
        lines.append(f"  {len(found.failed)} could not be labelled, counted as wrong")
    return lines
