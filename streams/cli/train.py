"""`headrace train`: rebuild the weights that a task ships with, or make your own. One command a file beside this."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.context import Json, on_terminal, print_json, settings_of
from streams.cli.train_digits import digits
from streams.cli.train_safety import safety
from streams.cli.train_sequence import sequence
from streams.errors import EnvironmentProblem, UserMistake

if TYPE_CHECKING:
    from models.train.sentiment import Progress

app = typer.Typer(no_args_is_help=True)


@app.callback()
def train() -> None:
    """Train the weights of a task, or the recommender's sequence layer."""


app.command(
    epilog="Example: headrace train sequence ml-100k.inter --format movielens --kind attention --out models/taste"
)(sequence)
app.command(epilog="Example: headrace train digits fsdd-recordings.tar --test theo --out weights/digits")(
    digits
)
app.command(epilog="Example: headrace train safety examples.jsonl --out weights/safety --revision desk-1")(
    safety
)


@app.command(epilog="Example: headrace train sentiment --data train.tsv --dev dev.tsv --out weights/mine")
def sentiment(
    ctx: typer.Context,
    data: Annotated[Path, typer.Option(help="Training sentences: one `sentence<TAB>0|1` a line.")],
    dev: Annotated[Path, typer.Option(help="Sentences to choose the best epoch by, in the same form.")],
    out: Annotated[Path, typer.Option(help="Folder for the weights and their manifest.")],
    revision: Annotated[str, typer.Option(help="Name of these weights; every label carries it.")] = "own-1",
    seed: Annotated[int, typer.Option(help="Same seed, machine and thread count: same weights.")] = 1,
    as_json: Json = False,
) -> None:
    """Train sentiment (LoRA on MiniLM and a linear head). Minutes on one core."""
    for path in (data, dev):
        if not path.is_file():
            raise EnvironmentProblem(f"there is no file {path}")
    threads = settings_of(ctx).media.threads
    import torch

    from models.train.sentiment import train_sentiment

    torch.set_num_threads(threads)
    show = _progress if on_terminal() else (lambda _: None)
    done = train_sentiment(data, dev, out, revision=revision, seed=seed, progress=show)
    low, high = done.dev_ci95
    if as_json:
        print_json(
            {
                "folder": str(done.folder),
                "sha256": done.manifest.sha256,
                "steps": done.steps,
                "dev_accuracy": done.dev_accuracy,
                "dev_ci95": [low, high],
                "dev_by_epoch": list(done.dev_by_epoch),
                "dev_calibration_error": done.dev_calibration_error,
                "temperature": done.temperature,
            }
        )
    else:
        typer.echo(
            f"{done.dev_accuracy:.4f} of {dev} right (95 %: {low:.4f} to {high:.4f}); weights in {done.folder}"
        )


@app.command(epilog="Example: headrace train characters neg.txt pos.txt --out weights/zh --revision zh-2")
def characters(
    ctx: typer.Context,
    negative: Annotated[Path, typer.Argument(help="Negative texts, one a line.")],
    positive: Annotated[Path, typer.Argument(help="Positive texts, one a line.")],
    out: Annotated[Path, typer.Option(help="Folder for the weights and their manifest.")],
    revision: Annotated[str, typer.Option(help="Name of these weights; every label carries it.")] = "own-1",
    seed: Annotated[int, typer.Option(help="Same seed and machine: same weights.")] = 1,
    as_json: Json = False,
) -> None:
    """Train the sentiment of Chinese, or another language without spaces, by runs of characters. Seconds to a minute.

    A tenth of the texts is held out and scored once, at the end.
    """
    for path in (negative, positive):
        if not path.is_file():
            raise EnvironmentProblem(f"there is no file {path}")
    threads = settings_of(ctx).media.threads
    import torch

    from models.errors import BadInput
    from models.train.ngrams import train_ngrams

    try:
        against, favour = (path.read_text("utf-8").splitlines() for path in (negative, positive))
    except UnicodeDecodeError as error:
        raise UserMistake(f"{negative} or {positive} is not UTF-8: {error}") from None
    torch.set_num_threads(threads)
    source = f"models/train/ngrams.py on {negative.name} and {positive.name}"
    try:
        done = train_ngrams(
            against,
            favour,
            out,
            name="characters-sentiment-zh",
            revision=revision,
            source=source,
            seed=seed,
        )
    except BadInput as error:
        raise UserMistake(f"{negative} and {positive}: {error}") from None
    low, high = done.test_ci95
    if as_json:
        print_json(
            {
                "folder": str(done.folder),
                "sha256": done.manifest.sha256,
                "texts": list(done.texts),
                "epochs": done.epochs,
                "dev_accuracy": done.dev_accuracy,
                "test_accuracy": done.test_accuracy,
                "test_ci95": [low, high],
                "test_by_class": list(done.test_by_class),
                "temperature": done.temperature,
            }
        )
    else:
        typer.echo(
            f"{done.test_accuracy:.4f} of {done.texts[2]} texts held out right (95 %: {low:.4f} to {high:.4f}); "
            f"weights in {done.folder}"
        )


@app.command(epilog="Example: headrace train topics examples.jsonl --out weights/desk --revision desk-1")
def topics(
    ctx: typer.Context,
    path: Annotated[
        Path,
        typer.Argument(metavar="FILE", help='Examples: {"text": …, "label": …} or text<TAB>topic a line.'),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the weights and their manifest.")],
    revision: Annotated[str, typer.Option(help="Name of these weights; every label carries it.")] = "own-1",
    seed: Annotated[int, typer.Option(help="Same seed and machine: same weights.")] = 1,
    as_json: Json = False,
) -> None:
    """Train a newsroom's own topics: a probe on the vectors of MiniLM. About a second for a hundred texts.

    A fifth of the texts is held out and scored once, at the end. To use it: media.tasks.topics.options.probe.
    """
    threads = settings_of(ctx).media.threads
    from streams.evaluate.references import read_references

    examples = [(one.text or "", one.label) for one in read_references(path, of_files=False)]
    import torch

    from models.errors import BadInput
    from models.train.topics import train_topics

    torch.set_num_threads(threads)
    try:
        done = train_topics(examples, out, name=f"topics-{out.resolve().name}", revision=revision, seed=seed)
    except BadInput as error:
        raise UserMistake(str(error)) from None
    low, high = done.test_ci95
    if as_json:
        print_json(
            {
                "folder": str(done.folder),
                "sha256": done.manifest.sha256,
                "topics": list(done.topics),
                "texts": list(done.texts),
                "l2": done.l2,
                "validation_accuracy": done.validation_accuracy,
                "test_accuracy": done.test_accuracy,
                "test_ci95": [low, high],
            }
        )
    else:
        typer.echo(
            f"{len(done.topics)} topics; {done.test_accuracy:.4f} of {done.texts[1]} texts held out right "
            f"(95 %: {low:.4f} to {high:.4f}); weights in {done.folder}"
        )


def _progress(step: "Progress") -> None:
    accuracy = "" if step.dev_accuracy is None else f", development set {step.dev_accuracy:.4f}\n"
    typer.echo(
        f"\repoch {step.epoch}, step {step.step} of {step.steps}, loss {step.loss:.3f}{accuracy}",
        nl=False,
        err=True,
    )
