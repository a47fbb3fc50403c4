"""`headrace optout`: lists without a profile for one reader."""

from typing import Annotated

import typer

from streams.cli.context import Json
from streams.cli.forget import User, Wait, ask_for

app = typer.Typer()


@app.command(epilog="Example: headrace optout ada")
def optout(
    ctx: typer.Context,
    user: User,
    undo: Annotated[
        bool, typer.Option("--undo", help="Opt in again; ends the block period as well.")
    ] = False,
    wait: Wait = 30.0,
    as_json: Json = False,
) -> None:
    """Make a reader's lists without a profile (`taste.list.profile = "off"` for this reader), or with one again."""
    ask_for(ctx, user, "opt_in" if undo else "opt_out", wait, as_json)
