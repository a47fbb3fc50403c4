"""`headrace send`: events from the command line or standard input, checked before they leave."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from streams.cli.context import Json, print_json, run_async, settings_of
from streams.errors import EnvironmentProblem, UserMistake

if TYPE_CHECKING:
    from streams.feed.records import Event
    from streams.secrecy.pseudonyms import Pseudonyms
    from streams.settings import Settings

app = typer.Typer()
EXAMPLE = """Example: headrace send clicks '{"user": "ada", "item": "news-7", "kind": "like"}'"""


@app.command(epilog=EXAMPLE)
def send(
    ctx: typer.Context,
    topic: Annotated[str, typer.Argument(help="clicks, audio, uploads, items, or any topic with --raw.")],
    event: Annotated[str, typer.Argument(help="JSON, a file with one event a line, or - for stdin.")] = "-",
    raw: Annotated[bool, typer.Option(help="Send the bytes as they are, unchecked.")] = False,
    key: Annotated[str | None, typer.Option(help="The record's key. Default: the event's own.")] = None,
    as_json: Json = False,
) -> None:
    """Send one event, or one a line. A missing `id` or `at` is filled in (a new id, now)."""
    from streams.clock import SystemClock
    from streams.secrecy.pseudonyms import Pseudonyms

    settings = settings_of(ctx)
    pseudonyms = Pseudonyms.read(settings.privacy.pseudonym_keys_file)
    now_ms = SystemClock().wall_ms()
    records: list[_Record] = []
    for number, line in enumerate(_lines(event), 1):
        if raw:
            records.append((key.encode() if key is not None else None, line, []))
            continue
        try:
            records.append(_checked(topic, line, now_ms, key, pseudonyms))
        except ValueError as error:
            raise UserMistake(f"event {number} is no event of topic {topic}: {error}") from None
    if not records:
        raise UserMistake("nothing to send: no line on standard input")
    for partition, offset in run_async(_send(settings, topic, records)):
        if as_json:
            print_json({"topic": topic, "partition": partition, "offset": offset})
        else:
            typer.echo(f"{topic}[{partition}] at {offset}")


_Record = tuple[bytes | None, bytes, list[tuple[str, bytes]]]


def _lines(given: str) -> Iterator[bytes]:
    if given == "-":
        yield from (line.rstrip(b"\r\n") for line in sys.stdin.buffer if line.strip())
    elif given.lstrip()[:1] in ("{", "[", '"') or not Path(given).is_file():
        yield given.encode()
    else:
        try:
            with Path(given).open("rb") as file:
                yield from (line.rstrip(b"\r\n") for line in file if line.strip())
        except OSError as error:
            raise EnvironmentProblem(f"cannot read {given}: {error.strerror}") from error


def _checked(
    topic: str, line: bytes, now_ms: int, key: str | None, pseudonyms: "Pseudonyms | None"
) -> _Record:
    """The record of one JSON event. Raises ValueError (msgspec's errors are) with what is wrong."""
    import uuid

    import msgspec

    from streams.events import EVENT_TYPES, Click, Privacy
    from streams.feed.records import outgoing
    from streams.topology.topics import INPUTS, TOPOLOGY

    if topic not in INPUTS:
        raise UserMistake(f"topic {topic!r} is not one of {', '.join(INPUTS)}; --raw sends to any topic")
    struct = EVENT_TYPES[next(str(row.event) for row in TOPOLOGY if row.name == topic)]
    fields: Any = msgspec.json.decode(line)
    if not isinstance(fields, dict):
        raise ValueError("it is not a JSON object")
    filled = {"id": str(uuid.uuid4()), "at": now_ms, **fields}
    event = msgspec.json.decode(msgspec.json.encode(filled), type=struct)
    if pseudonyms is not None and isinstance(event, Click | Privacy):
        event = pseudonyms.renamed(event)
    record = outgoing(cast("Event", event), source="headrace/send", topic=topic)
    return (key.encode() if key is not None else record.key), record.value, list(record.headers)


async def _send(settings: "Settings", topic: str, records: list[_Record]) -> list[tuple[int, int]]:
    from streams.clock import SystemClock
    from streams.effects import Emit
    from streams.errors import Retry
    from streams.feed.records import partition_of
    from streams.topology.admin import require_topics
    from streams.transport.producer import BatchProducer

    count = (await require_topics(settings, (topic,)))[topic]
    producer = BatchProducer(settings.kafka)
    await producer.start()
    try:
        places: list[tuple[int, int]] = []
        for key, value, headers in records:
            partition = partition_of(key, count) if key is not None else 0
            pending = await producer.send(
                Emit(topic, partition, [key], [value], [headers]), SystemClock().wall_ms()
            )
            await producer.confirmed(pending)
            places += [(partition, (await done).offset) for done in pending]
        return places
    except Retry as error:
        raise EnvironmentProblem(f"the broker did not take the event: {error}") from error
    finally:
        await producer.stop(settings.kafka.request_timeout_s)
