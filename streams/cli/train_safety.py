"""`headrace train safety`: a head that tells what may be shown from what may not, from a newsroom's own examples."""

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from streams.cli.context import Json, print_json, settings_of
from streams.errors import UserMistake


class By(str, Enum):
    """What a head looks at."""

    VECTORS = "vectors"
    WORDS = "words"


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
    by: Annotated[
        By,
        typer.Option(
            help="vectors of MiniLM: any number of kinds, a hundred examples do; words: one kind, from thousands."
        ),
    ] = By.VECTORS,
    revision: Annotated[str, typer.Option(help="Name of these weights; every label carries it.")] = "own-1",
    seed: Annotated[int, typer.Option(help="Same seed and machine: same weights.")] = 1,
    as_json: Json = False,
) -> None:
    """Train what `safety` finds in English texts beside its rules. Seconds by vectors, minutes by words.

    Labels are ok, and kinds such as toxicity and spam. Of the texts a fifth (by words a tenth) is held out and scored
    once, at the end. By words, neutral sentences about groups of people are added to what is ok, lest their names are
    learnt as insults. To use it: media.tasks.safety.options.head.
    """
    threads = settings_of(ctx).media.threads
    from streams.evaluate.references import read_references

    examples = [(one.text or "", one.label) for one in read_references(path, of_files=False)]
    import torch

    from models.errors import BadInput
    from models.tasks.learnt import OK

    if OK not in {label for _, label in examples}:
        raise UserMistake(
            f"{path} has no example that is {OK}: without any everything would be judged unsafe"
        )
    torch.set_num_threads(threads)
    train = _by_words if by is By.WORDS else _by_vectors
    called = out.resolve().name
    name = called if called.startswith("safety-") else f"safety-{called}"
    try:
        found = train(examples, out, name, revision, seed, path.name)
    except BadInput as error:
        raise UserMistake(f"{path}: {error}") from None
    if as_json:
        print_json(found)
        return
    low, high = found["test_ci95"]
    typer.echo(
        f"{found['test_accuracy']:.4f} of {found['texts'][-1]} texts held out right (95 %: {low:.4f} to {high:.4f}); "
        f"weights in {out}"
    )


def _by_vectors(
    examples: Sequence[tuple[str, str]], out: Path, name: str, revision: str, seed: int, _: str
) -> dict[str, Any]:
    from models.tasks.learnt import OK
    from models.train.topics import train_topics

    done = train_topics(examples, out, name=name, revision=revision, seed=seed)
    return {
        "folder": str(done.folder),
        "sha256": done.manifest.sha256,
        "kinds": [kind for kind in done.topics if kind != OK],
        "texts": list(done.texts),
        "validation_accuracy": done.validation_accuracy,
        "test_accuracy": done.test_accuracy,
        "test_ci95": list(done.test_ci95),
    }


def _by_words(
    examples: Sequence[tuple[str, str]], out: Path, name: str, revision: str, seed: int, source: str
) -> dict[str, Any]:
    from models.networks.ngrams import word_places
    from models.tasks.learnt import OK
    from models.tasks.safety import BLOCK_FROM, REVIEW_FROM
    from models.train.identities import sentences
    from models.train.ngrams import train_ngrams
    from models.train.thresholds import flagged

    kinds = sorted({label for _, label in examples} - {OK})
    if len(kinds) != 1:
        raise UserMistake(f"--by words tells one kind from {OK}; there are {', '.join(kinds) or 'none'}")
    done = train_ngrams(
        [*(text for text, label in examples if label == OK), *sentences()],
        [text for text, label in examples if label != OK],
        out,
        name=name,
        revision=revision,
        source=f"models/train/ngrams.py on {source}",
        seed=seed,
        read=word_places,
        weights_name=kinds[0],
    )
    return {
        "folder": str(done.folder),
        "sha256": done.manifest.sha256,
        "kinds": kinds,
        "texts": list(done.texts),
        "epochs": done.epochs,
        "validation_accuracy": done.dev_accuracy,
        "test_accuracy": done.test_accuracy,
        "test_ci95": list(done.test_ci95),
        "test_by_threshold": [
            flagged(done.test_scores, done.test_labels, threshold) for threshold in (REVIEW_FROM, BLOCK_FROM)
        ],
    }
