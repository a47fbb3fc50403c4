"""The command line as a whole: global options, lazy commands, and how errors become exit codes.

0 done, 1 failed, 2 a user's mistake, 3 something outside is missing, 130 interrupted; no stack trace for 2 and 3.
"""

import importlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from models.errors import ModelError, WeightsMismatch
from streams.cli.commands import COMMANDS
from streams.cli.context import Given
from streams.errors import EnvironmentProblem, HeadraceError, UserMistake

DONE, FAILED, MISTAKE, ENVIRONMENT, INTERRUPTED = 0, 1, 2, 3, 130
GLOBAL_WITH_VALUE = ("--config", "--set")


class LazyGroup(TyperGroup):
    """Imports a command's module when the command, or the list of all, is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        command = typer.main.get_command(importlib.import_module(COMMANDS[cmd_name]).app)
        command.name = cmd_name
        return command


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        try:
            typer.echo(f"headrace {metadata.version('headrace')}")
        except metadata.PackageNotFoundError:
            raise EnvironmentProblem("headrace is not installed: `pip install -e .` first") from None
        raise typer.Exit


@app.callback(epilog="Example: headrace --set kafka.bootstrap=127.0.0.1:9092 worker")
def root(
    ctx: typer.Context,
    config: Annotated[
        Path | None, typer.Option(help="Settings file. Default: $HEADRACE_CONFIG, else headrace.toml.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.NAME=VALUE", help="One setting; wins over all. Repeatable."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """Clicks to recommendations, audio and uploads to labels, on Kafka.

    --config and --set may stand anywhere on the line. Settings come from
    defaults, then a TOML file, then the environment
    (HEADRACE_KAFKA__BOOTSTRAP=...), then --set; each is stronger than the one
    before. `headrace config show` says which stands, and where it is from.

    Exit codes: 0 done, 1 failed, 2 a mistake in the command or the settings,
    3 something outside is missing (a broker, a file, a port), 130 interrupted.
    """
    ctx.obj = Given(config, tuple(set_ or ()))


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code. Raises only what is a defect of ours."""
    return exit_code_of(lambda: app(globals_first(arguments), prog_name="headrace"))


def exit_code_of(work: Callable[[], object]) -> int:
    """Do it; say in a line what went wrong. Raises only what is a defect of ours."""
    try:
        work()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else DONE
    except UserMistake as mistake:
        return _say(mistake, MISTAKE)
    except EnvironmentProblem as problem:
        return _say(problem, ENVIRONMENT)
    except WeightsMismatch as problem:
        return _say(problem, ENVIRONMENT)
    except (HeadraceError, ModelError) as error:
        return _say(error, FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    return DONE


def leave(code: int) -> NoReturn:
    """End the process."""
    if any(thread is not threading.main_thread() for thread in threading.enumerate()):
        # A model is still being loaded: torch aborts the process (exit 134) when the interpreter is taken down
        # under it. All that had to be finished is finished.
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def globals_first(arguments: Sequence[str]) -> list[str]:
    """The same line with the global options in front, where the parser wants them."""
    front: list[str] = []
    rest: list[str] = []
    left = iter(arguments)
    for argument in left:
        if argument == "--":
            rest += [argument, *left]
        elif argument in GLOBAL_WITH_VALUE:
            front += [argument, *([value] if (value := next(left, None)) is not None else [])]
        elif argument.startswith(tuple(f"{name}=" for name in GLOBAL_WITH_VALUE)):
            front.append(argument)
        else:
            rest.append(argument)
    return front + rest


def _say(error: Exception, code: int) -> int:
    typer.echo(f"headrace: {error}", err=True)
    return code
