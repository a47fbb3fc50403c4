"""`headrace plan`: how large a cluster must be for a load, on paper."""

from typing import Annotated

import typer

from streams.cli.context import Json, print_json, settings_of

app = typer.Typer()


@app.command(epilog="Example: headrace plan --users 100000000 --clicks-per-second 1000000")
def plan(
    ctx: typer.Context,
    users: Annotated[int, typer.Option(min=1, help="Readers with state.")],
    clicks_per_second: Annotated[float, typer.Option(min=0.001, help="At the busiest time.")],
    items: Annotated[int, typer.Option(min=1, help="Items that somebody clicks.")] = 1_000_000,
    worker_clicks: Annotated[
        float,
        typer.Option(
            min=1, help="Clicks a second of one worker: measure yours with `headrace bench clicks`."
        ),
    ] = 20_000.0,
    as_json: Json = False,
) -> None:
    """Say how many workers and partitions, how much memory, changelog and network a load needs. Asks no broker.

    Sizes of rows are those of the settings (`taste.dim`, `taste.half_lives_s`, `taste.ring`).
    """
    from dataclasses import asdict

    from streams.plan import Asked, Assumed
    from streams.plan import plan as planned

    asked, assumed = Asked(users, clicks_per_second, items), Assumed(worker_clicks_per_s=worker_clicks)
    figures = planned(asked, settings_of(ctx), assumed)
    if as_json:
        print_json({"asked": asdict(asked), "assumed": asdict(assumed), "plan": figures})
        return
    for title, rows in (("assumed", asdict(assumed)), ("plan", figures)):
        typer.echo(title)
        for name, value in rows.items():
            typer.echo(f"  {name:<36}{value:>16,}")
