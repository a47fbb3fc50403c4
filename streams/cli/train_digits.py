"""`headrace train digits`: a head for spoken digits, from recordings to a folder that `transcribe` serves."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.context import Json, on_terminal, print_json, settings_of
from streams.errors import EnvironmentProblem, UserMistake

if TYPE_CHECKING:
    from models.train.digits import Progress, Split


def digits(
    ctx: typer.Context,
    recordings: Annotated[
        Path,
        typer.Argument(metavar="RECORDINGS", help="A folder or tar of {digit}_{speaker}_{take}.wav."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the weights, their manifest and config.json.")],
    test: Annotated[
        str,
        typer.Option(help="Speakers, with commas, that are only tested on. Default: the last by name."),
    ] = "",
    validation: Annotated[
        str,
        typer.Option(help="Speakers to choose the best state by. Default: every tenth take of the others."),
    ] = "",
    steps: Annotated[int, typer.Option(min=20, help="Batches of 32 strings.")] = 600,
    revision: Annotated[str, typer.Option(help="Name of these weights; every label carries it.")] = "own-1",
    seed: Annotated[int, typer.Option(help="Same seed, machine and thread count: same weights.")] = 1,
    picture: Annotated[
        Path | None, typer.Option(help="PNG of what is heard for what. Default: confusion.png in the folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a head for spoken digits (CTC) on some speakers, and test it on others. Minutes on one core.

    To use it: media.tasks.transcribe.folder.
    """
    media = settings_of(ctx).media
    if not recordings.exists():
        raise EnvironmentProblem(f"there is no file or folder {recordings}")
    from streams.evaluate.confusion import draw_confusion
    from streams.evaluate.plot import require_matplotlib

    require_matplotlib()
    import torch

    from models.errors import BadInput
    from models.inference.ctc_files import Encoder
    from models.train.digits import ENCODER_LAYERS, WORDS, Recipe, train_digits
    from models.train.spoken import read_clips
    from models.types import LoadOptions

    torch.set_num_threads(media.threads)
    try:
        clips = read_clips(recordings)
        encoder = Encoder.load(LoadOptions(cache=media.cache), ENCODER_LAYERS)
        tested = _names(test) or sorted(clips)[-1:]
        done = train_digits(
            clips,
            encoder,
            out,
            revision=revision,
            test=tested,
            validation=_names(validation),
            recipe=Recipe(steps=steps),
            seed=seed,
            progress=_progress if on_terminal() else lambda _: None,
        )
    except BadInput as error:
        raise UserMistake(str(error)) from None
    path = picture or out / "confusion.png"
    draw_confusion(
        WORDS,
        [
            (f"{name}: {', '.join(part.speakers)}", part.confusion)
            for name, part in _parts(done.validation, done.test)
        ],
        path,
    )
    parts = [("train", done.train), *_parts(done.validation, done.test)]
    if as_json:
        print_json(
            {
                "folder": str(done.folder),
                "sha256": done.manifest.sha256,
                "steps": done.steps,
                "picture": str(path),
                **{name: asdict(part) for name, part in parts},
            }
        )
        return
    for name, part in parts:
        typer.echo(
            f"{name:10} {', '.join(part.speakers)}: of digits in strings {part.strings.value:.4f} wrong "
            f"(95 %: {part.strings.low:.4f} to {part.strings.high:.4f}), of {part.recordings} single recordings "
            f"{part.clips.value:.4f} ({part.clips.low:.4f} to {part.clips.high:.4f})"
        )
    typer.echo(f"weights in {done.folder}, what is heard for what in {path}")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _parts(validation: "Split", test: "Split") -> list[tuple[str, "Split"]]:
    return [("validation", validation), ("test", test)]


def _progress(now: "Progress") -> None:
    if now.loss is None:
        typer.echo(f"\r{now.done} of {now.of} strings made", nl=False, err=True)
        return
    wrong = "" if now.validation is None else f", validation {now.validation:.4f} wrong\n"
    typer.echo(f"\rstep {now.done} of {now.of}, loss {now.loss:.3f}{wrong}", nl=False, err=True)
