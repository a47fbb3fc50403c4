"""`headrace train safety`: a head that tells what may be shown from what may not, from a newsroom's own examples."""

from pathlib import Path
from typing import Annotated

import typer

from streams.cli.context import Json, print_json, settings_of
from streams.errors import UserMistake


def safety(
    ctx: typer.Context,
    path: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help='Examples: {"text": …, "label": …} or text<TAB>label a line; ok, or a kind of what is not.',
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the weights and their manifest.")],
    revision: Annotated[str, typer.Option(help="Name of these weights; every label carries it.")] = "own-1",
    seed: Annotated[int, typer.Option(help="Same seed and machine: same weights.")] = 1,
    as_json: Json = False,
) -> None:
    """Train what `safety` finds beside its rules: a head on the vectors of MiniLM, English. Seconds.

    Labels are ok, and kinds such as toxicity and spam. A fifth of the texts is held out and scored once, at the end. To
    use it: media.tasks.safety.options.head.
    """
    threads = settings_of(ctx).media.threads
    from streams.evaluate.references import read_references

    examples = [(one.text or "", one.label) for one in read_references(path, of_files=False)]
    import torch

    from models.errors import BadInput
    from models.tasks.safety import OK
    from models.train.topics import train_topics

    if OK not in {label for _, label in examples}:
        raise UserMistake(
            f"{path} has no example that is {OK}: without any everything would be judged unsafe"
        )
    torch.set_num_threads(threads)
    try:
        done = train_topics(examples, out, name=f"safety-{out.resolve().name}", revision=revision, seed=seed)
    except BadInput as error:
        raise UserMistake(str(error)) from None
    low, high = done.test_ci95
    if as_json:
        print_json(
            {
                "folder": str(done.folder),
                "sha256": done.manifest.sha256,
                "kinds": [name for name in done.topics if name != OK],
                "texts": list(done.texts),
                "validation_accuracy": done.validation_accuracy,
                "test_accuracy": done.test_accuracy,
                "test_ci95": [low, high],
            }
        )
    else:
        typer.echo(
            f"{done.test_accuracy:.4f} of {done.texts[1]} texts held out right (95 %: {low:.4f} to {high:.4f}); "
            f"weights in {done.folder}"
        )
