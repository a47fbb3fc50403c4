"""`headrace dlq`: what could not be processed: look at it, and send it again once the cause is mended."""

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.context import Json, print_json, run_async, settings_of

if TYPE_CHECKING:
    from streams.feed.deadletters import DeadLetter, Listed, Replayed, Wanted
    from streams.settings import Settings

app = typer.Typer(no_args_is_help=True)
Topic = Annotated[str | None, typer.Option(help="The input topic, e.g. clicks. Default: all of them.")]
Reason = Annotated[str | None, typer.Option(help="Only dead letters with this reason, e.g. schema.")]
SHOWN_BYTES = 4_000


@app.callback()
def dlq() -> None:
    """Dead letters: list them, show one, send them again."""


@app.command("list", epilog="Example: headrace dlq list --topic clicks --reason schema --limit 50")
def list_(
    ctx: typer.Context,
    topic: Topic = None,
    reason: Reason = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Newest to show of each topic.")] = 20,
    as_json: Json = False,
) -> None:
    """Dead letters by reason, and the newest of them. However many there are, only these are kept in memory."""
    found = run_async(_list(settings_of(ctx), _topics(topic), reason, limit))
    counts: Counter[str] = Counter()
    for one in found:
        counts.update(one.counts)
    shown = [letter for one in found for letter in one.newest]
    if as_json:
        print_json({"counts": dict(counts.most_common()), "dead_letters": [one.as_json() for one in shown]})
        return
    if not counts:
        typer.echo("no dead letters")
    for why, number in counts.most_common():
        typer.echo(f"{number:>8,}  {_harmless(why)}")
    for letter in shown:
        typer.echo(_line(letter))


def _line(letter: "DeadLetter") -> str:
    tried = f", tried {letter.attempts} times" if letter.attempts > 1 else ""
    again = f", replayed {letter.replays} times" if letter.replays else ""
    left = ", value left out" if letter.left_out else ""
    place = f"{letter.topic} {letter.partition} {letter.offset}"
    return f"{place}  {_harmless(letter.reason)}{tried}{again}{left}: {_harmless(letter.message)}"


@app.command(epilog="Example: headrace dlq show clicks 3 17")
def show(
    ctx: typer.Context,
    topic: Annotated[str, typer.Argument(help="The input topic.")],
    partition: Annotated[int, typer.Argument(min=0, help="As `list` prints it.")],
    offset: Annotated[int, typer.Argument(min=0, help="In the dead-letter topic, as `list` prints it.")],
    as_json: Json = False,
) -> None:
    """One dead letter: its headers, key and value. Exit code 1 when there is none."""
    from streams.errors import UserMistake

    one = run_async(_find(settings_of(ctx), _topics(topic)[0], partition, offset))
    if one is None:
        raise UserMistake(f"there is no dead letter {offset} in {topic}.dlt[{partition}]")
    headers: dict[str, Any] = {_harmless(name): _harmless(_text(value)) for name, value in one.headers}
    if as_json:
        print_json(one.as_json() | {"headers": headers, "key": _text(one.key), "value": _text(one.value)})
        return
    for name, value in headers.items():
        typer.echo(f"{name}: {value}")
    typer.echo(f"key: {_harmless(_text(one.key))}")
    value = one.value or b""
    more = f" … ({len(value):,} bytes)" if len(value) > SHOWN_BYTES else ""
    typer.echo(f"value: {_harmless(_text(value[:SHOWN_BYTES]))}{more}")


@app.command(epilog="Example: headrace dlq replay --topic clicks --reason schema --rate 100 --dry-run")
def replay(
    ctx: typer.Context,
    topic: Topic = None,
    reason: Reason = None,
    dry_run: Annotated[bool, typer.Option(help="Say what would be sent, and send nothing.")] = False,
    rate: Annotated[float | None, typer.Option(min=0.001, help="At most so many records a second.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many records of each topic.")] = None,
    max_replays: Annotated[
        int, typer.Option(min=1, help="Leave records that were replayed so often already.")
    ] = 3,
    as_json: Json = False,
) -> None:
    """Send dead letters again to the topic and partition they came from, with their own key, value and headers.

    Each is sent once, whatever the filter: what was replayed is remembered by reason and number of replays. One that
    fails again becomes a new dead letter that knows how often it was replayed; those left by --max-replays stay for a
    later run with a higher one.
    """
    from streams.feed.deadletters import Wanted

    wanted = Wanted(reason, limit, rate, max_replays, dry_run)
    done = run_async(_replay(settings_of(ctx), _topics(topic), wanted))
    if as_json:
        from dataclasses import asdict

        print_json({"dry_run": dry_run, "topics": {name: asdict(one) for name, one in done.items()}})
        return
    for name, one in done.items():
        typer.echo(_words(name, one, dry_run))


def _words(topic: str, done: "Replayed", dry_run: bool) -> str:
    left = {
        "replayed before": done.done_before,
        "replayed too often": done.looping,
        "of another reason": done.other_reason,
        "beyond the limit": done.beyond_limit,
        "without their value": done.without_value,
        "sealed with a key that privacy.dead_letter_keys_file has not": done.sealed,
    }
    why = ", ".join(f"{number:,} {words}" for words, number in left.items() if number)
    return f"{topic}: {'would send' if dry_run else 'sent'} {done.sent:,}{f'; left {why}' if why else ''}"


def _topics(named: str | None) -> tuple[str, ...]:
    from streams.errors import UserMistake
    from streams.topology.topics import INPUTS

    if named is not None and named not in INPUTS:
        raise UserMistake(f"--topic {named}: there are {', '.join(INPUTS)}")
    return INPUTS if named is None else (named,)


async def _list(
    settings: "Settings", topics: tuple[str, ...], reason: str | None, limit: int
) -> "list[Listed]":
    from streams.feed.deadletters import listed
    from streams.topology.admin import require_topics
    from streams.topology.topics import dead_letter

    counts = await require_topics(settings, tuple(dead_letter(topic) for topic in topics))
    return [await listed(settings, topic, counts[dead_letter(topic)], reason, limit) for topic in topics]


async def _find(settings: "Settings", topic: str, partition: int, offset: int) -> "DeadLetter | None":
    from streams.feed.deadletters import find
    from streams.topology.admin import require_topics
    from streams.topology.topics import dead_letter

    counts = await require_topics(settings, (dead_letter(topic),))
    return await find(settings, topic, counts[dead_letter(topic)], partition, offset)


async def _replay(settings: "Settings", topics: tuple[str, ...], wanted: "Wanted") -> "dict[str, Replayed]":
    from streams.clock import SystemClock
    from streams.feed.deadletters import replay as send_again
    from streams.topology.admin import require_topics
    from streams.topology.topics import DLQ_PROGRESS, dead_letter

    counts = await require_topics(
        settings, (DLQ_PROGRESS, *topics, *(dead_letter(topic) for topic in topics))
    )
    clock = SystemClock()
    return {
        topic: await send_again(settings, topic, counts[dead_letter(topic)], wanted, clock)
        for topic in topics
    }


def _text(raw: bytes | None) -> str:
    return "" if raw is None else raw.decode("utf-8", "backslashreplace")


def _harmless(text: str) -> str:
    """Without what a terminal would obey: hostile bytes are somebody else's."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
