"""`headrace tail`: what is on a topic."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.context import print_json, run_async, settings_of

if TYPE_CHECKING:
    from streams.settings import Settings

app = typer.Typer()
SHOWN_CHARACTERS = 400


@app.command(epilog="Example: headrace tail labels -n 5 --from-beginning --json")
def tail(
    ctx: typer.Context,
    topic: Annotated[str, typer.Argument(help="The topic's name, without the prefix.")],
    count: Annotated[int | None, typer.Option("-n", min=1, help="Stop after so many records.")] = None,
    from_beginning: Annotated[
        bool, typer.Option(help="From the oldest record instead of the newest.")
    ] = False,
    follow: Annotated[bool, typer.Option(help="Wait for new records, or stop at the present end.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Whole records, one JSON object a line.")] = False,
) -> None:
    """Show the records of a topic as they come, until Ctrl-C. Commits nothing."""
    run_async(_tail(settings_of(ctx), topic, count, from_beginning, follow, as_json))


async def _tail(
    settings: "Settings", topic: str, count: int | None, from_beginning: bool, follow: bool, as_json: bool
) -> None:
    from contextlib import aclosing

    from streams.feed.tail import records
    from streams.topology.admin import require_topics

    partitions = (await require_topics(settings, (topic,)))[topic]
    shown = 0
    async with aclosing(
        records(settings, topic, partitions, from_beginning=from_beginning, follow=follow)
    ) as found:
        async for record in found:
            if as_json:
                print_json(record_json(record, topic))
            else:
                typer.echo(record_line(record, topic))
            shown += 1
            if shown == count:
                return


def record_json(record: Any, topic: str) -> dict[str, Any]:
    """The record as one JSON object; a value that is not JSON comes as text with escapes."""
    return {
        "topic": topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": _text(record.key),
        "headers": {name: _text(value) for name, value in record.headers},
        "value": _value(record.value),
    }


def record_line(record: Any, topic: str) -> str:
    """One line for people: place, key and the beginning of the value."""
    value = _value(record.value)
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(shown) > SHOWN_CHARACTERS:
        shown = f"{shown[:SHOWN_CHARACTERS]}… ({len(record.value)} bytes)"
    return f"{topic}[{record.partition}]@{record.offset} {_text(record.key)} {shown}"


def _value(raw: bytes | None) -> Any:
    if raw is None:
        return None
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return _text(raw)


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode("utf-8", "backslashreplace")
