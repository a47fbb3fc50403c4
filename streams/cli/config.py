"""`headrace config`: what a process would be told, and by whom."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from streams.cli.context import Json, given, print_json

app = typer.Typer(no_args_is_help=True)


@app.callback()
def config() -> None:
    """Look at the settings and at the schemas of events."""


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


@app.command(epilog="Example: headrace config schemas --out docs/schemas")
def schemas(
    out: Annotated[Path | None, typer.Option(help="Write a file an event type into this folder.")] = None,
) -> None:
    """Print the JSON Schema of every event, or write them into a folder."""
    from streams.events import EVENT_TYPES, json_schema

    for name in EVENT_TYPES:
        text = json.dumps(json_schema(name), indent=2, ensure_ascii=False)
        if out is None:
            typer.echo(text)
        else:
            out.mkdir(parents=True, exist_ok=True)
            (out / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")


@app.command(epilog="Example: headrace config openapi > docs/openapi.json")
def openapi() -> None:
    """Print the OpenAPI document of the queries that a worker answers on its HTTP port."""
    from importlib import metadata

    from streams.query.openapi import document

    typer.echo(json.dumps(document(metadata.version("headrace")), indent=2, ensure_ascii=False))


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"kafka": {"group": "x"}}` as `{"kafka.group": "x"}`."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            leaves |= flat(value, f"{prefix}{name}.")
        else:
            leaves[prefix + name] = value
    return leaves
