"""`headrace feed`: recorded clicks, or folders of media, into the input topics."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.context import Json, on_terminal, print_json, run_async, settings_of
from streams.errors import EnvironmentProblem, UserMistake

if TYPE_CHECKING:
    from streams.feed.clicks import BadLines
    from streams.feed.player import Played
    from streams.feed.records import Outgoing
    from streams.secrecy.pseudonyms import Pseudonyms
    from streams.settings import Settings

app = typer.Typer()
SHOWN_BAD = 5


@app.command(epilog="Example: headrace feed ratings.dat --format movielens --speed max")
def feed(
    ctx: typer.Context,
    paths: Annotated[list[Path], typer.Argument(help="Files; folders too for media.")],
    form: Annotated[str, typer.Option("--format", help="jsonl, movielens, yoochoose, items or media.")],
    topic: Annotated[str | None, typer.Option(help="Another topic than the event's own.")] = None,
    speed: Annotated[str, typer.Option(help="Times the recorded pace, or max. Media: files a second.")] = "1",
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many events.")] = None,
    strict: Annotated[bool, typer.Option(help="Stop at the first bad line or file.")] = False,
    as_json: Json = False,
) -> None:
    """Play recorded clicks in time order, a catalogue of items, or media files, into a cluster.

    Events carry the same ids each time, so that playing a file twice counts once.
    """
    from streams.feed.clicks import BadLines

    settings, pace = settings_of(ctx), _speed(speed)
    bad = BadLines(strict, "file" if form == "media" else "line")
    from streams.secrecy.pseudonyms import Pseudonyms

    pseudonyms = Pseudonyms.read(settings_of(ctx).privacy.pseudonym_keys_file)
    records = itertools.islice(_records(paths, form, topic, bad, pseudonyms), limit)
    first = next(records, None)  # a missing file or a wrong format shows before a broker is asked
    if first is None:
        raise EnvironmentProblem(f"no event in {', '.join(map(str, paths))}" + _bad_words(bad))
    played = run_async(_play(settings, itertools.chain([first], records), pace, topic))
    if as_json:
        print_json(
            {
                "sent": played.sent,
                "seconds": round(played.seconds, 3),
                "per_s": round(played.per_s, 1),
                "bad": bad.count,
                "bad_lines": bad.first,
            }
        )
    else:
        counts = ", ".join(f"{count} to {name}" for name, count in played.sent.items())
        typer.echo(f"sent {counts} in {played.seconds:.1f} s ({played.per_s:,.0f}/s){_bad_words(bad)}")


def _records(
    paths: list[Path],
    form: str,
    topic: str | None,
    bad: "BadLines",
    pseudonyms: "Pseudonyms | None",
) -> Iterator["Outgoing"]:
    from streams.clock import SystemClock
    from streams.feed.clicks import read_clicks
    from streams.feed.items import read_items
    from streams.feed.media import read_media
    from streams.feed.records import outgoing

    if form == "media":
        yield from read_media(paths, bad, SystemClock(), "headrace/feed", topic)
        return
    for path in paths:
        source = f"headrace/feed/{path.name}"
        if form == "items":
            now_ms = SystemClock().wall_ms()
            for item in read_items(path, bad, now_ms):
                yield outgoing(item, source=source, topic=topic, play_ms=now_ms)
            continue
        for click in read_clicks(path, form, bad):
            named = pseudonyms.renamed(click) if pseudonyms is not None else click
            yield outgoing(named, source=source, topic=topic)


async def _play(
    settings: "Settings", records: Iterator["Outgoing"], speed: float | None, topic: str | None
) -> "Played":
    from streams.clock import SystemClock
    from streams.feed.player import Player
    from streams.topology.admin import require_topics
    from streams.topology.topics import INPUTS
    from streams.transport.producer import BatchProducer

    partitions = await require_topics(settings, {*INPUTS, topic} if topic else INPUTS)
    producer = BatchProducer(settings.kafka)
    await producer.start()
    try:
        player = Player(producer, partitions, SystemClock(), _report if on_terminal() else None)
        return await player.play(records, speed)
    finally:
        await producer.stop(settings.kafka.request_timeout_s)
        if on_terminal():
            typer.echo("", err=True)


def _report(played: "Played") -> None:
    typer.echo(f"\r{played.total:,} sent, {played.per_s:,.0f}/s ", nl=False, err=True)


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise UserMistake(f"--speed {text}: a number above 0, or max")
    return speed


def _bad_words(bad: "BadLines") -> str:
    if not bad.count:
        return ""
    first = "".join(f"\n  {bad.words(number, reason)}" for number, reason in bad.first[:SHOWN_BAD])
    more = f"\n  and {bad.count - SHOWN_BAD} more" if bad.count > SHOWN_BAD else ""
    units = bad.unit if bad.count == 1 else f"{bad.unit}s"
    return f"; left out {bad.count} bad {units}:{first}{more}"
