"""`headrace bench`: speed and latency beside plain Faust and a bare loop, on a broker of its own."""

from pathlib import Path
from typing import Annotated

import typer

from streams.cli.context import Json, print_json, settings_of

app = typer.Typer()


@app.command(epilog="Example: headrace bench clicks --broker embedded --json")
def bench(
    ctx: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            help="transport, clicks, latency, recommend, delivery, recovery, inference, speech, scale. Default: all."
        ),
    ] = "all",
    as_json: Json = False,
    broker: Annotated[
        str | None,
        typer.Option(help="kafka or embedded. Default: kafka where HEADRACE_KAFKA_LIB names its jars."),
    ] = None,
    clicks: Annotated[int | None, typer.Option(min=100, help="Clicks of the fast contenders.")] = None,
    faust_clicks: Annotated[
        int | None, typer.Option(min=100, help="Clicks of plain Faust, which is slow.")
    ] = None,
    users: Annotated[int, typer.Option(min=1, help="Readers, by Zipf's law.")] = 50_000,
    items: Annotated[int, typer.Option(min=20, help="Items, by Zipf's law.")] = 4_000,
    seconds: Annotated[float, typer.Option(min=1, help="How long latency is measured.")] = 30.0,
    rate: Annotated[float, typer.Option(min=1, help="Clicks a second for latency.")] = 1000.0,
    repetitions: Annotated[int, typer.Option(min=1, help="Median of so many runs.")] = 1,
    texts: Annotated[int | None, typer.Option(min=64, help="Texts of the inference feed.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:1, for inference.")] = "cpu",
    recordings: Annotated[Path | None, typer.Option(help="A folder of speech, for speech.")] = None,
    partitions: Annotated[int, typer.Option(min=1, max=1000, help="Of the topics, for latency.")] = 8,
    linger_ms: Annotated[
        int, typer.Option(min=0, help="How long the feed gathers a batch, for latency.")
    ] = 0,
) -> None:
    """Measure this machine: each contender is a process on one core, the broker is on another.

    transport: records a second of the reader. clicks: the profile job, and lists. latency: click to output.
    recommend: lists alone, of few and of many items, and memory a reader. delivery: exactly-once against at-least-once.
    recovery: readers read back from the changelog.
    inference: texts through the engine, against batches as they arrive, and the whole way against an offline loop.
    speech: recordings to text on one core, and by faster-whisper where it is installed.
    scale: 1, 2 and 4 workers on one broker, and a worker that joins.
    """
    from streams.bench.run import Wanted, run_benchmarks

    wanted = Wanted(
        broker,
        clicks,
        faust_clicks,
        users,
        items,
        seconds,
        rate,
        repetitions,
        texts,
        device,
        recordings,
        partitions,
        linger_ms,
    )
    results = run_benchmarks(name, wanted, settings_of(ctx), lambda line: typer.echo(line, err=True))
    for result in results:
        if as_json:
            print_json(result.as_json())
        else:
            typer.echo(result.table())
