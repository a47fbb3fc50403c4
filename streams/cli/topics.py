"""`headrace topics`: the declared topology against the cluster."""

import typer

from streams.cli.context import Json, print_json, run_async, settings_of

app = typer.Typer(no_args_is_help=True)


@app.callback()
def topics() -> None:
    """Compare the topics with what the cluster has, and create what is missing."""


@app.command(epilog="Example: headrace topics plan --json")
def plan(ctx: typer.Context, as_json: Json = False) -> None:
    """Say what `apply` would create and what differs. Changes nothing. Exit code 1 when something differs."""
    from streams import admin

    differences = run_async(admin.plan(settings_of(ctx)))
    if as_json:
        print_json({"differences": [one.as_json() for one in differences]})
    else:
        for one in differences:
            typer.echo(one.words())
        if not differences:
            typer.echo("the cluster has every topic as declared")
    raise typer.Exit(1 if differences else 0)


@app.command(epilog="Example: headrace --set topics.partitions=24 topics apply")
def apply(ctx: typer.Context, as_json: Json = False) -> None:
    """Create the missing topics. Reports other differences and exits with 1 when there are some."""
    from streams import admin

    created, left = run_async(admin.apply(settings_of(ctx)))
    if as_json:
        print_json(
            {"created": [one.topic for one in created], "differences": [one.as_json() for one in left]}
        )
    else:
        typer.echo(f"created: {', '.join(one.topic for one in created) or 'nothing, all were there'}")
        for one in left:
            typer.echo(one.words())
    raise typer.Exit(1 if left else 0)
