"""A task that shouts, whose forward can be held and broken, behind a real service: threads, planner, engine."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from models.errors import BadInput
from models.types import Finding, LoadOptions, ModelInfo, Outcome, Payload, Prepared, Task, Unit
from streams.inference.answers import Answer
from streams.inference.device import BatchReport
from streams.inference.limits import InferenceLimits
from streams.inference.service import InferenceService

R = TypeVar("R")


class Shouter:
    """A unit a word, upper-cased. `hold` stops the device inside a forward until it is set."""

    name = "shout"
    model = ModelInfo("shout", "1", "", "float32")
    batch_cost = 64
    max_units = 4

    def __init__(self) -> None:
        self.hold = threading.Event()
        self.hold.set()
        self.entered = threading.Event()
        self.ran: list[bytes] = []
        self.broken: BaseException | None = None

    @classmethod
    def load(cls, options: LoadOptions) -> "Shouter":
        return cls()

    @classmethod
    def accepts(cls, media_type: str) -> bool:
        return True

    def prepare(self, payload: Payload) -> Prepared:
        if payload.data == b"undecodable":
            raise BadInput("undecodable", "on purpose")
        return Prepared(tuple(Unit(len(word), word) for word in payload.data.split()))

    def forward(self, units: Sequence[Unit]) -> list[Any]:
        self.entered.set()
        assert self.hold.wait(90)
        if self.broken is not None:
            raise self.broken
        if any(unit.data == b"poison" for unit in units):
            raise ValueError("cannot shout this")
        self.ran += [unit.data for unit in units]
        return [unit.data.upper() for unit in units]

    def finish(self, prepared: Prepared, outputs: Sequence[Any]) -> Outcome:
        return Outcome((Finding(self.name, b" ".join(outputs).decode()),))

    def examples(self) -> Sequence[Payload]:
        return [text("hello")]


class Ears:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.batches: list[BatchReport] = []
        self.failures: list[tuple[str, str]] = []
        self.repeats: list[tuple[str, str]] = []
        self.lates: list[str] = []
        self.restarts: list[str] = []
        self.uncaptureds: list[tuple[str, int]] = []

    def batch_done(self, batch: BatchReport) -> None:
        assert batch.forward_s >= 0
        assert batch.queue_s >= 0
        self.batches.append(batch)

    def failed(self, task: str, reason: str) -> None:
        self.failures.append((task, reason))

    def repeated(self, task: str, how: str) -> None:
        self.repeats.append((task, how))

    def late(self, task: str) -> None:
        self.lates.append(task)

    def uncaptured(self, task: str, shapes: int) -> None:
        self.uncaptureds.append((task, shapes))

    def restarted(self, reason: str) -> None:
        self.restarts.append(reason)


def text(words: str) -> Payload:
    return Payload("text/plain", words.encode())


def service(
    *, observer: Ears | None = None, limits: InferenceLimits | None = None, **tasks: Task
) -> InferenceService:
    """One that serves these very objects."""

    def find(name: str) -> type[Task]:
        class Found(Shouter):
            @classmethod
            def load(cls, options: LoadOptions) -> Any:
                return tasks[name]

        return Found

    return InferenceService(
        clock=time.monotonic, observer=observer, limits=limits, compute_threads=1, find_class=find
    )


async def started(made: InferenceService, *names: str) -> InferenceService:
    await made.start({name: LoadOptions(cache=Path("unused")) for name in names or ("shout",)})
    return made


def run(main: Coroutine[Any, Any, R]) -> R:
    async def bounded() -> R:
        return await asyncio.wait_for(main, 120)

    return asyncio.run(bounded())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  other threads bring it about, and set no event
        await asyncio.sleep(0.001)


async def held(task: Shouter, made: InferenceService, words: str = "held") -> "asyncio.Task[Answer]":
    """A submit whose forward is under way and stays so until `task.hold` is set."""
    task.hold.clear()
    task.entered.clear()
    submitted = asyncio.create_task(made.submit("shout", text(words)))
    await until(task.entered.is_set)
    return submitted


def waiting(made: InferenceService) -> int:
    """Units in the planner."""
    assert made._device is not None
    return len(made._device)


def said(answer: Answer) -> Any:
    return answer.outcome.findings[0].value
