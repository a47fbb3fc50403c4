"""`headrace worker`: one process that runs agents until it is told to stop."""

from typing import Annotated

import typer

from streams.cli.context import Given, given

app = typer.Typer()


@app.command(epilog="Example: headrace worker --agents clicks,items")
def worker(
    ctx: typer.Context,
    agents: Annotated[
        str | None, typer.Option(help="Which agents to run, with commas. Default: all in the settings.")
    ] = None,
) -> None:
    """Run a worker until SIGTERM or Ctrl-C; it finishes what is in flight and leaves its groups."""

    options = given(ctx)
    if agents is not None:
        options = Given(options.config, (*options.sets, f"worker.agents={agents}"))
    settings = options.settings()
    from streams.clock import SystemClock
    from streams.observe.logs import set_up
    from streams.worker.run import run_process

    set_up(settings.log_level, SystemClock(), settings.log_format, settings.privacy.mask)
    raise typer.Exit(run_process(settings))
