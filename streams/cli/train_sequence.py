"""`headrace train sequence`: a sequence model from recorded clicks, for `taste.sequence.folder` and `evaluate`."""

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.context import Json, on_terminal, print_json, settings_of
from streams.errors import UserMistake

if TYPE_CHECKING:
    from models.sequence.folder import Manifest
    from models.train.sequence import Measured, Round, Trained


def sequence(
    ctx: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Recorded clicks.")],
    form: Annotated[
        str, typer.Option("--format", help="movielens, yoochoose or jsonl (Headrace's own clicks).")
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for the model; what it held is replaced at once, readers may go on.")
    ],
    kind: Annotated[
        str, typer.Option(help="recurrence (1 KB a reader, O(1) a click) or attention (over the last 64).")
    ] = "recurrence",
    split: Annotated[
        str,
        typer.Option(
            help="leave-one-out: each reader's last event is the test, the one before chooses the best round. time: "
            "the last 10 % of all events are the test, the 10 % before choose. none: the last 10 % choose, no test. "
            "all: everything is trained on, for all --rounds."
        ),
    ] = "leave-one-out",
    minutes: Annotated[float, typer.Option(min=0.01, help="At most so long.")] = 15.0,
    rounds: Annotated[
        int | None,
        typer.Option(
            min=1, help="At most so often through the data. Default: 60; with --split all 14, shuffled 28."
        ),
    ] = None,
    dropout: Annotated[
        float | None,
        typer.Option(
            min=0, max=0.9, help="More where there is little data. Default: 0.3; with --split all 0.5."
        ),
    ] = None,
    shuffle: Annotated[
        float,
        typer.Option(
            min=0,
            help="By so many places, at most, a reader's events change their order from round to round: 32 where the "
            "order is hardly more than chance, as of ratings.",
        ),
    ] = 0.0,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Of FILE, the first so many events by time.")
    ] = None,
    fives: Annotated[bool, typer.Option("--fives", help="movielens: of ratings, those of 5 alone.")] = False,
    repeats: Annotated[
        bool | None,
        typer.Option(
            "--repeats/--new-only",
            help="Score items that the reader had as well, or take them out. Default: out for movielens.",
        ),
    ] = None,
    max_items: Annotated[int, typer.Option(min=2, help="Most items; the most frequent ones stay.")] = 50_000,
    revision: Annotated[
        str | None, typer.Option(help="Name of this model in lists. Default: its kind and hash.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, machine and thread count: same weights.")] = 1,
    as_json: Json = False,
) -> None:
    """Train the sequence layer on FILE: the next item of each reader. Minutes on one core.

    Prints HR@10 and NDCG@10 of the part that chose the best round and of the test, over all items, with rows by time
    since the reader's last event: many recorded events share a second, and are easier.
    """
    settings = settings_of(ctx)
    import torch

    from models.sequence.folder import KINDS, write
    from models.train.histories import SPLITS
    from models.train.sequence import ALL_DROPOUT, Recipe, all_rounds, train_sequence
    from streams.clock import SystemClock
    from streams.evaluate.sequences import training_data

    for name, given, known in (("kind", kind, KINDS), ("split", split, SPLITS)):
        if given not in known:
            raise UserMistake(f"--{name} {given}: it is one of {', '.join(known)}")
    data = training_data(path, form, split, fives=fives, limit=limit, max_items=max_items)
    torch.set_num_threads(settings.media.threads)
    clock = SystemClock()
    began_s = clock.monotonic_s()
    recipe = Recipe(kind=kind, seed=seed, shuffle=shuffle)
    if split == "all":
        recipe = replace(recipe, rounds=all_rounds(shuffle), dropout=ALL_DROPOUT)
    recipe = replace(
        recipe, rounds=rounds or recipe.rounds, dropout=recipe.dropout if dropout is None else dropout
    )
    own_out = form == "movielens" if repeats is None else not repeats
    try:
        done = train_sequence(
            data.histories,
            data.hashes,
            recipe,
            own_out=own_out,
            out_of_time=lambda: clock.monotonic_s() - began_s > 60 * minutes,
            progress=_progress if on_terminal() else lambda _: None,
        )
    except ValueError as error:
        raise UserMistake(f"{path}: {error}") from None
    if not done.tensors:
        raise UserMistake(f"--minutes {minutes:g} is not enough for one round through {path}")
    scores = _scores(done)
    training = {
        **asdict(recipe),
        "own_out": own_out,
        "trained_rounds": done.rounds,
        "best_round": done.best_round,
        "steps": done.steps,
        "seconds": round(clock.monotonic_s() - began_s, 1),
        "out_of_time": done.out_of_time,
    }
    manifest = write(
        out,
        kind,
        done.tensors,
        data.hashes,
        revision=revision,
        data=data.about,
        training=training,
        scores=scores,
    )
    if as_json:
        print_json(_document(out, manifest))
    else:
        typer.echo(_text(out, manifest, done))


def _scores(done: "Trained") -> dict[str, Any]:
    parts = {"validation": done.validation} if done.validation.asked else {}
    parts |= {"test": done.test} if done.test else {}
    return {
        name: {
            "asked": one.asked,
            "hr_at_10": round(one.hr, 5),
            "ndcg_at_10": round(one.ndcg, 5),
            "hr_at_10_by_gap": {
                gap: {"asked": asked, "hr_at_10": round(hr, 5) if asked else None}
                for gap, (asked, hr) in one.by_gap.items()
            },
        }
        for name, one in parts.items()
    }


def _document(out: Path, manifest: "Manifest") -> dict[str, Any]:
    shown = ("kind", "revision", "sha256", "items", "data", "training", "scores")
    return {"folder": str(out)} | {name: getattr(manifest, name) for name in shown}


def _text(out: Path, manifest: "Manifest", done: "Trained") -> str:
    lines = []
    if done.validation.asked:
        lines = [f"{'':14}{'asked':>8}{'HR@10':>8}{'NDCG@10':>9}", _row("validation", done.validation)]
    if done.test:
        lines.append(_row("test", done.test))
        lines += [f"  {gap:12}{asked:>8}{hr:>8.3f}" for gap, (asked, hr) in done.test.by_gap.items() if asked]
    training = manifest.training
    lines.append(
        f"{manifest.revision} in {out}: {manifest.items:,} items, round {done.best_round} of {done.rounds} in "
        f"{training['seconds']:.0f} s{', stopped by --minutes' if done.out_of_time else ''}"
    )
    return "\n".join(lines)


def _row(name: str, one: "Measured") -> str:
    return f"{name:14}{one.asked:>8}{one.hr:>8.3f}{one.ndcg:>9.3f}"


def _progress(one: "Round") -> None:
    chosen = f", validation HR@10 {one.hr:.3f}, NDCG@10 {one.ndcg:.3f}{' (best)' if one.best else '       '}"
    typer.echo(
        f"\rround {one.number} of at most {one.rounds}: loss {one.loss:.3f}{'' if math.isnan(one.ndcg) else chosen}",
        nl=False,
        err=True,
    )
