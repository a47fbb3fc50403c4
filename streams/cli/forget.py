"""`headrace forget`: erase a reader, and the receipt."""

from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.context import Json, print_json, run_async, settings_of

if TYPE_CHECKING:
    from streams.events import PrivacyKind
    from streams.privacy.request import Asked
    from streams.settings import Settings

app = typer.Typer()
User = Annotated[str, typer.Argument(help="The reader's id, as it is in the clicks.")]
Wait = Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for the receipt; 0: do not.")]


@app.command(epilog="Example: headrace forget ada --json")
def forget(ctx: typer.Context, user: User, wait: Wait = 30.0, as_json: Json = False) -> None:
    """Erase a reader: state, snapshots, list, dead letters; late clicks are dropped for `privacy.block_s`.

    Running workers do it (agents `clicks` and `privacy`); the receipt says that it is done and names nobody. Without a
    receipt in time the exit code is 1, and it is done as soon as a worker runs. What docs/privacy.md lists with a
    retention goes with it.
    """
    ask_for(ctx, user, "forget", wait, as_json)


def ask_for(ctx: typer.Context, user: str, kind: "PrivacyKind", wait_s: float, as_json: bool) -> None:
    """Send the event, await the receipt, say what came; ends the command."""
    asked = run_async(_asked(settings_of(ctx), user, kind, wait_s))
    if as_json:
        from msgspec import to_builtins

        print_json({"request": asked.event.id, "receipts": [to_builtins(one) for one in asked.receipts]})
    else:
        typer.echo(f"request {asked.event.id}")
        for one in asked.receipts:
            typer.echo(_words(one.partition, one.had_state, one.dead_letters))
        if not asked.receipts and wait_s:
            typer.echo(
                f"no receipt within {wait_s:g} s: it is done as soon as workers with the agents clicks and privacy run",
                err=True,
            )
    raise typer.Exit(1 if wait_s and not asked.receipts else 0)


def _words(partition: int, had_state: bool, dead_letters: int | None) -> str:
    state = "state erased or changed" if had_state else "no state was there"
    letters = f"{dead_letters} dead letters removed"
    if dead_letters is None:
        letters = "dead letters stay for their 30 days: this broker cannot remove records"
    return f"done in partition {partition}: {state}; {letters}"


async def _asked(settings: "Settings", user: str, kind: "PrivacyKind", wait_s: float) -> "Asked":
    import uuid

    import msgspec

    from streams.clock import SystemClock
    from streams.errors import UserMistake
    from streams.events import Privacy
    from streams.privacy.request import Asked, ask
    from streams.secrecy.pseudonyms import Pseudonyms
    from streams.topology.admin import require_topics
    from streams.topology.topics import PRIVACY, PRIVACY_RECEIPTS

    fields = {"id": str(uuid.uuid4()), "user": user, "kind": kind, "at": SystemClock().wall_ms()}
    try:
        event = msgspec.convert(fields, Privacy)
    except msgspec.ValidationError as error:
        raise UserMistake(f"{user!r} is no reader's id: {error}") from None
    partitions = (await require_topics(settings, (PRIVACY, PRIVACY_RECEIPTS)))[PRIVACY]
    pseudonyms = Pseudonyms.read(settings.privacy.pseudonym_keys_file)
    names = pseudonyms.all_of(user) if pseudonyms is not None else [user]
    asked = []
    for number, name in enumerate(names):
        its = msgspec.structs.replace(
            event, user=name, id=event.id if number == 0 else f"{event.id}.{number}"
        )
        asked.append(await ask(settings, its, partitions, wait_s))
    complete = all(one.receipts for one in asked)
    return Asked(event, [receipt for one in asked for receipt in one.receipts] if complete else [])
