"""`headrace lag`: how far each agent is behind."""

from typing import TYPE_CHECKING

import typer

from streams.cli.context import Json, print_json, run_async, settings_of

if TYPE_CHECKING:
    from streams.feed.lag import Lag
    from streams.settings import Settings

app = typer.Typer()


@app.command(epilog="Example: headrace lag --json")
def lag(ctx: typer.Context, as_json: Json = False) -> None:
    """Records and seconds that each agent's group is behind, by partition, from the brokers alone.

    Seconds are the age of the first record that is not done; 0 for who is not behind.
    """
    found = run_async(_lags(settings_of(ctx)))
    if as_json:
        from dataclasses import asdict

        print_json({"partitions": [asdict(one) for one in found]})
        return
    typer.echo(f"{'agent':<16}{'partition':>10}{'committed':>12}{'end':>12}{'records':>10}{'seconds':>10}")
    for one in found:
        committed = "-" if one.committed is None else str(one.committed)
        typer.echo(
            f"{one.agent:<16}{one.partition:>10}{committed:>12}{one.end:>12}{one.records:>10}{one.seconds:>10.1f}"
        )
    for agent in dict.fromkeys(one.agent for one in found):
        its = [one for one in found if one.agent == agent]
        records, seconds = sum(one.records for one in its), max(one.seconds for one in its)
        typer.echo(f"{agent}: {records:,} records, {seconds:.1f} s behind")


async def _lags(settings: "Settings") -> "list[Lag]":
    from streams.agents.registry import with_companions
    from streams.clock import SystemClock
    from streams.feed.lag import lags
    from streams.topology.admin import require_topics

    agents = [(agent.name, agent.topic) for agent in with_companions(settings.worker.agents)]
    await require_topics(settings, [topic for _, topic in agents])
    return await lags(settings, agents, SystemClock().wall_ms())
