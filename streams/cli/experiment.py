"""`headrace experiment`: which arm's lists readers choose from."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.context import Json, print_json, run_async, settings_of

if TYPE_CHECKING:
    from streams.feed.experiments import Outcome
    from streams.settings import Settings

app = typer.Typer()
UNLIKELY = 0.001


@app.command(epilog="Example: headrace experiment calmer-lists --json")
def experiment(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="As in the settings, and in the recommendations.")],
    seed: Annotated[int, typer.Option(help="Of intervals: the same seed gives the same ones.")] = 7,
    as_json: Json = False,
) -> None:
    """Credit the clicks that followed the published lists of an experiment to its arms, and compare them.

    Reads `recommendations` and `clicks` from the beginning; commits nothing. A click counts once for the arm (of
    interleaved lists: the team) that put the item on the reader's newest list. Intervals are 95 %, by bootstrap over
    readers. Of old lists, compaction leaves each reader's newest: read while the experiment runs.
    """
    found = run_async(_read(settings_of(ctx), name, seed))
    if as_json:
        print_json(document(found))
    else:
        for line in lines(found):
            typer.echo(line)


async def _read(settings: "Settings", name: str, seed: int) -> "Outcome":
    from streams.feed.experiments import read
    from streams.topology.admin import require_topics
    from streams.topology.topics import CLICKS, RECOMMENDATIONS

    partitions = await require_topics(settings, (CLICKS, RECOMMENDATIONS))
    return await read(settings, name, partitions, seed)


def document(found: "Outcome") -> dict[str, Any]:
    """What `--json` prints; null where there is no figure."""
    liking = found.preference
    return {
        "experiment": found.name,
        "arms": list(found.arms),
        "lists": found.lists,
        "readers": found.readers,
        "clicks": found.clicks,
        "clicks_beside": found.beside,
        "readers_as_weighed_p": None if found.mismatch is None else _figure(found.mismatch),
        "preference": liking
        and {
            "of": found.arms[0],
            "over": found.arms[1],
            "value": _figure(liking.value),
            "low": _figure(liking.low),
            "high": _figure(liking.high),
            "decided": liking.decided,
            "lists": liking.lists,
            "readers": liking.readers,
            "wins": {found.arms[0]: liking.first, found.arms[1]: liking.second},
            "ties": liking.ties,
        },
        "rates": {
            arm: {
                "lists": rate.lists,
                "readers": rate.readers,
                "clicks": rate.clicks,
                "clicks_a_list": _figure(rate.value),
                "low": _figure(rate.low),
                "high": _figure(rate.high),
                "difference": _figure(rate.difference),
                "difference_low": _figure(rate.difference_low),
                "difference_high": _figure(rate.difference_high),
            }
            for arm, rate in zip(found.arms, found.rates, strict=False)
        },
    }


def lines(found: "Outcome") -> list[str]:
    """For people."""
    shown = [f"{found.name}: {found.lists:,} lists of {found.readers:,} readers"]
    if found.rates:
        shown.append(f"{'arm':<20} {'lists':>9} {'readers':>8} {'clicks':>8}  clicks a list (95 %)")
        for arm, rate in zip(found.arms, found.rates, strict=True):
            line = f"{arm:<20} {rate.lists:>9,} {rate.readers:>8,} {rate.clicks:>8,}  {rate.value:.4f}"
            line += f" ({rate.low:.4f} to {rate.high:.4f})"
            if arm != found.arms[0]:
                line += (
                    f", {rate.difference:+.4f} ({rate.difference_low:+.4f} to {rate.difference_high:+.4f})"
                )
            shown.append(line)
    if found.mismatch is not None and found.mismatch < UNLIKELY:
        shown.append(
            f"readers are not spread over the arms as their weights say (p = {found.mismatch:.2g}): something moves "
            "them, and the arms cannot be compared"
        )
    if found.preference is not None:
        liking, (first, second) = found.preference, found.arms[:2]
        shown.append(
            f"interleaved: {first} won {liking.first:,} lists, {second} {liking.second:,}, {liking.ties:,} ties"
        )
        said = "no preference is shown"
        if liking.decided:
            said = f"readers prefer {first if liking.value > 0 else second}"
        shown.append(
            f"preference for {first}: {liking.value:+.3f} (95 %: {liking.low:+.3f} to {liking.high:+.3f}); {said}"
        )
    shown.append(f"{found.beside:,} clicks were on nothing of the reader's newest list")
    return shown


def _figure(value: float) -> float | None:
    return None if value != value else round(value, 6)
