"""`headrace config`: what a process would be told, and by whom."""

from typing import Any

import typer

from streams.cli.context import Json, given, print_json

app = typer.Typer(no_args_is_help=True)


@app.callback()
def config() -> None:
    """Look at the settings."""


@app.command(epilog="Example: headrace config show --json")
def show(ctx: typer.Context, as_json: Json = False) -> None:
    """Show every setting, its value and where it comes from. Secrets stay hidden."""
    from streams.settings import origins

    options = given(ctx)
    values = flat(options.settings().model_dump(mode="json"))
    found = origins(options.config, options.overrides())

    def origin(name: str) -> str:
        return next((text for set_, text in found.items() if f"{name}.".startswith(f"{set_}.")), "default")

    if as_json:
        print_json({name: {"value": value, "from": origin(name)} for name, value in values.items()})
        return
    width = max(map(len, values))
    for name, value in values.items():
        shown = "-" if value is None else value
        typer.echo(f"{name:<{width}}  {shown}" + (f"  ({origin(name)})" if origin(name) != "default" else ""))


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"kafka": {"group": "x"}}` as `{"kafka.group": "x"}`."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            leaves |= flat(value, f"{prefix}{name}.")
        else:
            leaves[prefix + name] = value
    return leaves
