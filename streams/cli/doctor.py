"""`headrace doctor`: what would go wrong here, before it does."""

from typing import Annotated

import typer

from streams.cli.context import Json, print_json, run_async, settings_of

app = typer.Typer()


@app.command(epilog="Example: headrace doctor --strict")
def doctor(
    ctx: typer.Context,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 on a warning, too.")] = False,
    as_json: Json = False,
) -> None:
    """Look at versions, settings, port, disk, device, models, broker and topics, and say what to do about each.

    Changes nothing. Exit code 1 when something would stop a worker or lose records.
    """
    from streams.doctor import examine

    found = run_async(examine(settings_of(ctx)))
    if as_json:
        from dataclasses import asdict

        print_json({"findings": [asdict(one) for one in found]})
    else:
        for one in found:
            remedy = f" -> {one.remedy}" if one.remedy else ""
            typer.echo(f"{one.state:<5} {one.check:<9} {one.found}{remedy}")
    bad = ("fail", "warn") if strict else ("fail",)
    raise typer.Exit(1 if any(one.state in bad for one in found) else 0)
