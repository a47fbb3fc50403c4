"""`headrace topics`: the declared topology against the cluster."""

from typing import Annotated, Literal

import typer

from streams.cli.context import Json, print_json, run_async, settings_of
from streams.errors import UserMistake

app = typer.Typer(no_args_is_help=True)


@app.callback()
def topics() -> None:
    """Compare the topics with what the cluster has, create what is missing, or write manifests for an operator."""


@app.command(epilog="Example: headrace topics plan --json")
def plan(ctx: typer.Context, as_json: Json = False) -> None:
    """Say what `apply` would create and what differs. Changes nothing. Exit code 1 when something differs."""
    from streams.topology import admin

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
    from streams.topology import admin

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


@app.command(epilog="Example: headrace topics manifests --format strimzi --cluster kafka > topics.yaml")
def manifests(
    ctx: typer.Context,
    format_: Annotated[
        Literal["strimzi"], typer.Option("--format", help="Which operator's: KafkaTopic and KafkaUser.")
    ] = "strimzi",
    cluster: Annotated[
        str, typer.Option(help="The name of the Kafka resource that they belong to.")
    ] = "kafka",
    user: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=AGENT,AGENT: a user for workers that run these agents; repeatable. "
            "Default: headrace-clicks=clicks,items,privacy and headrace-media=audio,uploads."
        ),
    ] = None,
) -> None:
    """Print the topics, and users with the least rights that workers need, as YAML. Asks no broker."""
    from streams.topology.manifests import USERS, strimzi

    assert format_ == "strimzi"
    users = dict(_named_agents(one) for one in user) if user else USERS
    typer.echo(strimzi(settings_of(ctx), cluster, users), nl=False)


def _named_agents(given: str) -> tuple[str, tuple[str, ...]]:
    name, equals, agents = given.partition("=")
    if not (name and equals and agents):
        raise UserMistake(f"--user {given}: write it as NAME=AGENT,AGENT")
    return name, tuple(agents.split(","))


@app.command(epilog="Example: headrace topics asyncapi > asyncapi.json")
def asyncapi(ctx: typer.Context) -> None:
    """Print topics and events as an AsyncAPI 3.0 document. Asks no broker."""
    import json

    from streams.topology.asyncapi import document

    made = document(settings_of(ctx).kafka.topic_prefix)
    typer.echo(json.dumps(made, indent=2, ensure_ascii=False))
