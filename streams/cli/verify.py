"""`headrace verify`: break workers on purpose and compare what came out with a plain reading of the log."""

from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.context import Json, print_json

if TYPE_CHECKING:
    from streams.verify.plan import Report

app = typer.Typer()


@app.command(epilog="Example: headrace verify --broker kafka --delivery exactly_once --kills 20 --seed 7")
def verify(
    as_json: Json = False,
    broker: Annotated[
        str, typer.Option(help="embedded, or kafka (its jars named by HEADRACE_KAFKA_LIB).")
    ] = "embedded",
    delivery: Annotated[str, typer.Option(help="at_least_once or exactly_once.")] = "at_least_once",
    kills: Annotated[int, typer.Option(min=0, help="How often a worker is killed.")] = 5,
    clicks: Annotated[int, typer.Option(min=1, help="Clicks sent while the faults go on.")] = 200_000,
    media: Annotated[int, typer.Option(min=0, help="Comments to judge; 0 needs no models.")] = 2_000,
    orders: Annotated[
        int, typer.Option(min=0, help="Orders of readers between the clicks: forget, opt out, opt in.")
    ] = 60,
    workers: Annotated[int, typer.Option(min=1, max=8, help="Worker processes.")] = 3,
    faults: Annotated[
        str,
        typer.Option(
            help="Kinds, by comma: kill; term (SIGTERM); stop (SIGSTOP for longer than the session); clock (the time "
            "of day jumps); disk (a snapshot is damaged, or there is no room); and on Kafka broker (stopped and "
            "started), network (a worker's is cut for longer than the session), partition (at the end clicks gets one "
            "more, and all workers must refuse it)."
        ),
    ] = "kill,term,stop,clock,disk,broker,network,partition",
    seed: Annotated[
        int, typer.Option(help="The same seed gives the same load and the same order of faults.")
    ] = 1,
    minutes: Annotated[
        float, typer.Option(min=0, help="Repeat with new seeds until so long has passed.")
    ] = 0.0,
) -> None:
    """Break real workers on purpose, and judge what came out by a plain reading of the log.

    On a broker of its own; the oracle shares no code with the workers, and
    looks at state, lists, transitions, labels, dead letters, receipts and
    offsets. Exit code 1 on any difference.
    """
    from streams.clock import SystemClock
    from streams.verify.plan import Plan, check
    from streams.verify.run import run

    kinds = tuple(kind.strip() for kind in faults.split(",") if kind.strip())
    clock = SystemClock()
    until_s = clock.monotonic_s() + 60 * minutes
    differences = 0
    while True:
        plan = Plan(broker, delivery, clicks, media, orders, workers, kills, kinds, seed)
        check(plan)
        report = run(plan, clock, lambda line: typer.echo(line, err=True))
        differences += len(report.judgement.differences)
        if as_json:
            print_json(report.as_json())
        else:
            _print(report)
        seed += 1
        if clock.monotonic_s() >= until_s:
            break
    if differences:
        raise typer.Exit(1)


def _print(report: "Report") -> None:
    judged = report.judgement
    kinds = [fault["kind"] for fault in report.faults]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds))) or "none"
    typer.echo(f"seed {report.plan.seed}: injected {counts}, in {report.seconds:.0f} s")
    for what, expected in judged.expected.items():
        typer.echo(f"  {what:<40} expected {expected:>9,}   found {judged.found[what]:>9,}")
    for difference in judged.differences[:20]:
        typer.echo(f"  difference: {difference}")
    typer.echo(f"{len(judged.differences)} differences")
