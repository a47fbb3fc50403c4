"""A bar on standard error for whoever waits at a terminal; nothing where nobody does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from streams.cli.context import on_terminal


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Gives a function of (done, total; 0 if it is not known)."""
    if not on_terminal():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        row = shown.add_task(what, total=None)
        yield lambda done, total: shown.update(row, completed=done, total=total or None)
