"""Which commands exist. A row names a module; nothing is imported until a command is asked for.

A module has `app`, a `typer.Typer` with one command or several, and imports only typer and the standard
library at its top: `headrace --help` imports them all and must stay fast.
"""

COMMANDS: dict[str, str] = {
    "demo": "streams.cli.demo",
    "worker": "streams.cli.worker",
    "topics": "streams.cli.topics",
    "send": "streams.cli.send",
    "tail": "streams.cli.tail",
    "feed": "streams.cli.feed",
    "dlq": "streams.cli.dlq",
    "forget": "streams.cli.forget",
    "optout": "streams.cli.optout",
    "label": "streams.cli.label",
    "train": "streams.cli.train",
    "evaluate": "streams.cli.evaluate",
    "experiment": "streams.cli.experiment",
    "bench": "streams.cli.bench",
    "verify": "streams.cli.verify",
    "lag": "streams.cli.lag",
    "plan": "streams.cli.plan",
    "doctor": "streams.cli.doctor",
    "config": "streams.cli.config",
}
"""Command name -> module, in the order of `headrace --help`."""
