"""What every command is given: the global options, and the settings built from them."""

import asyncio
import json
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from streams.errors import EnvironmentProblem, UserMistake

if TYPE_CHECKING:
    from streams.settings import Settings

T = TypeVar("T")

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@dataclass(frozen=True)
class Given:
    """The global options. `sets` are `section.name=value`, in order."""

    config: Path | None = None
    sets: tuple[str, ...] = ()

    def overrides(self) -> dict[str, Any]:
        """`sets` as the nested mapping that `streams.settings.load` takes. Raises UserMistake."""
        tree: dict[str, Any] = {}
        for text in self.sets:
            name, equals, value = text.partition("=")
            path = name.strip().split(".")
            if not equals or not all(path):
                raise UserMistake(f"--set {text}: write it as section.name=value")
            table = tree
            for step in path[:-1]:
                table = table.setdefault(step, {})
                if not isinstance(table, dict):
                    raise UserMistake(f"--set {text}: {step} has been given a value already")
            table[path[-1]] = _parsed(value)
        return tree

    def settings(self) -> "Settings":
        """The frozen settings. Raises UserMistake with every mistake in them."""
        from streams.settings import load

        return load(self.config, self.overrides())


def given(ctx: typer.Context) -> Given:
    """The global options of this command line."""
    found = ctx.find_object(Given)
    assert found is not None  # the root callback has run
    return found


def settings_of(ctx: typer.Context) -> "Settings":
    return given(ctx).settings()


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, with quiet client libraries: their retries are not the user's business.

    Raises EnvironmentProblem for what a Kafka client could not do.
    """
    import logging

    from aiokafka.errors import KafkaError

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        return asyncio.run(work)
    except KafkaError as error:
        raise EnvironmentProblem(f"the Kafka cluster did not do its part: {error!r}") from error


def print_json(value: object) -> None:
    """One JSON document on a line of its own."""
    typer.echo(json.dumps(value, ensure_ascii=False, default=str))


def on_terminal() -> bool:
    """Whether progress may be drawn: standard error is a terminal."""
    return sys.stderr.isatty()


def _parsed(value: str) -> Any:
    """Lists and tables as JSON or with commas; the rest stays text, which the settings convert."""
    if value[:1] in "[{":
        try:
            return json.loads(value)
        except ValueError:
            raise UserMistake(f"--set …={value}: it begins like JSON but is not") from None
    return value
