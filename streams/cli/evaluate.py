"""`headrace evaluate`: how good lists are on recorded clicks, beside baselines, and labels on references. No Kafka."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.context import Json, on_terminal, print_json, settings_of
from streams.cli.evaluate_tasks import add_to
from streams.errors import UserMistake

if TYPE_CHECKING:
    from models.evaluate.sequential import Retraining
    from models.evaluate.served import ServedSettings
    from models.taste.lists.request import ListSettings
    from streams.settings import Settings

app = typer.Typer(no_args_is_help=True)
add_to(app)


@app.callback()
def evaluate() -> None:
    """Measure the quality of lists on recorded clicks, and of labels on references."""


@app.command(
    epilog="Example: headrace evaluate clicks ml-100k.inter --format movielens --top 10 --plot curve.png"
)
def clicks(
    ctx: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Recorded clicks.")],
    form: Annotated[
        str, typer.Option("--format", help="movielens, yoochoose or jsonl (Headrace's own clicks).")
    ],
    protocol: Annotated[
        str | None,
        typer.Option(
            help="fives, all, next-click or leave-one-out. Default: fives for movielens, next-click for yoochoose, "
            "else all."
        ),
    ] = None,
    new_only: Annotated[
        bool, typer.Option("--new-only/--repeats", help="next-click: score items new to the visit alone.")
    ] = False,
    train: Annotated[Path | None, typer.Option(help="Learn from this file first, without scoring.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Of FILE, the first so many events by time.")
    ] = None,
    top: Annotated[
        int | None, typer.Option(min=1, max=200, help="K. Default: 20 for next-click, else 10.")
    ] = None,
    layers: Annotated[str, typer.Option(help="Rows of the table, with commas. Default: all.")] = "",
    ties: Annotated[str, typer.Option(help="against: an equal score counts as lost; half.")] = "against",
    freshness: Annotated[
        bool, typer.Option("--freshness", help="Learn on 80 %, score the rest with ever staler item tables.")
    ] = False,
    served: Annotated[
        str,
        typer.Option(
            metavar="JSON", help='Other settings of Headrace\'s own layers, such as {"symmetry": 1}.'
        ),
    ] = "{}",
    catalogue: Annotated[
        Path | None,
        typer.Option(help="Items' titles, topics, ...: JSON lines or RecBole's .item; row content."),
    ] = None,
    retrain: Annotated[
        int | None,
        typer.Option(
            min=1, help="Train a sequence model anew after so many events: rows retrained, -blend, -online."
        ),
    ] = None,
    kind: Annotated[str, typer.Option(help="Of that model: recurrence or attention.")] = "recurrence",
    stages: Annotated[
        str,
        typer.Option(
            "--list",
            metavar="JSON",
            help='Row list: as published, with what [taste.list] has otherwise, such as {"diversity": "mmr"}.',
        ),
    ] = "",
    asked: Annotated[
        bool,
        typer.Option(
            "--asked/--at-click",
            help="Row list with order: made when a reader comes to choose (the page tells an impression, say), or at "
            "the reader's last click, when nobody knows how long until the next.",
        ),
    ] = False,
    interleave: Annotated[
        str,
        typer.Option(
            metavar="ROW,ROW", help="Draft lists of two rows into one: which team do clicks prefer?"
        ),
    ] = "",
    against: Annotated[
        str,
        typer.Option(
            metavar="ROW", help="Differences of all other rows from this one, with their intervals."
        ),
    ] = "",
    model: Annotated[
        Path | None,
        typer.Option(help="A folder of `headrace train sequence`: rows sequence and sequence-blend."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the learning curve, or recall by delay, into this PNG.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of intervals: the same seed gives the same ones.")] = 7,
    as_json: Json = False,
) -> None:
    """Test then learn: each event is scored with what was known before it, over all items; then it is learnt.

    Rows: popularity, last-item, item-knn (baselines); user-cosine (the classic user-user formula over all readers),
    user-nearest (over the nearest); content (classic content-based) and content-recent (the same, forgetting) with
    --catalogue; counts, taste, trending (parts of what Headrace serves), blend (their sum, as served), own-first (the
    reader's own items before the blend), last (counts of the reader's last item alone); list (as published, with all
    stages) and list-plain (without its diversity) with --list; sequence (a trained model) and sequence-blend (the blend
    with it) with --model; retrained and retrained-blend (one that is trained on the way) and retrained-online
    (blend-online with it) with --retrain; blend-online (the calibrated blend of the served parts and of steps, wide,
    walk, nearest, its weights refitted at every choice), own-online (own items before it).
    """
    settings = _served(settings_of(ctx), served)
    from streams.evaluate.plot import draw, require_matplotlib
    from streams.evaluate.report import as_json as document
    from streams.evaluate.report import as_text
    from streams.evaluate.run import Wanted
    from streams.evaluate.run import evaluate as evaluated

    if plot:
        require_matplotlib()
    chosen = tuple(name.strip() for name in layers.split(",") if name.strip())
    wanted = Wanted(
        path,
        form,
        protocol,
        new_only,
        train,
        top,
        chosen,
        ties,
        freshness,
        seed,
        limit,
        catalogue,
        _stages(settings_of(ctx), stages) if stages else None,
        _two(interleave) if interleave else None,
        model,
        against or None,
        _retraining(settings_of(ctx), retrain, kind) if retrain else None,
        asked,
    )
    found = evaluated(wanted, settings, _progress if on_terminal() else lambda *_: None)
    if on_terminal():
        typer.echo("", err=True)
    if plot:
        draw(found, plot)
    if as_json:
        print_json(document(found))
    else:
        typer.echo(as_text(found))


def _served(settings: "Settings", text: str) -> "ServedSettings":
    """The worker's settings, with what the command line says instead. Raises UserMistake."""
    import msgspec

    from models.evaluate.served import ServedSettings

    taste = settings.taste
    given = _object(text)
    rank = given.pop("rank", {})
    unknown = set(given) - set(ServedSettings.__dataclass_fields__)
    base: dict[str, Any] = {
        "dim": taste.dim,
        "half_lives_s": taste.half_lives_s,
        "ring": taste.ring,
        "sequence_weight": taste.sequence.weight,
    }
    try:
        made = msgspec.convert({**base, **given, "rank": rank}, ServedSettings)
    except msgspec.ValidationError as error:
        raise UserMistake(f"--served: {error}") from None
    unknown |= set(rank) - set(made.rank.__dataclass_fields__)
    if unknown:
        raise UserMistake(f"--served knows no {', '.join(sorted(unknown))}")
    return made


def _stages(settings: "Settings", text: str) -> "ListSettings":
    """The worker's stages, with what the command line says instead. Raises UserMistake."""
    from pydantic import ValidationError

    from streams.sections.taste import Listing
    from streams.taste.maker import list_settings

    try:
        listing = Listing.model_validate({**settings.taste.list.model_dump(), **_object(text, "--list")})
    except ValidationError as error:
        wrong = error.errors()[0]
        raise UserMistake(f"--list: {'.'.join(map(str, wrong['loc']))}: {wrong['msg']}") from None
    return list_settings(listing)


def _two(text: str) -> tuple[str, str]:
    rows = tuple(row.strip() for row in text.split(","))
    if len(rows) != 2:
        raise UserMistake("--interleave takes two rows, as in counts,blend")
    return rows


def _retraining(settings: "Settings", every: int, kind: str) -> "Retraining":
    import torch

    from models.evaluate.sequential import Retraining

    if kind not in ("recurrence", "attention"):
        raise UserMistake(f"--kind {kind}: it is recurrence or attention")
    torch.set_num_threads(settings.media.threads)
    return Retraining(every, kind, shuffle=settings.taste.sequence.train_shuffle)


def _object(text: str, option: str = "--served") -> dict[str, Any]:
    try:
        given = json.loads(text)
    except ValueError as error:
        raise UserMistake(f"{option} is not JSON: {error}") from None
    if not isinstance(given, dict):
        raise UserMistake(f"{option} is a JSON object")
    return given


def _progress(what: str, done: int, total: int) -> None:
    typer.echo(f"\r{what}: {done:,} of {total:,} events ", nl=False, err=True)
