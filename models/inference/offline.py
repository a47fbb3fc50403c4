"""Tasks without a stream: label payloads in one thread, by the planner and engine that the worker uses."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch

from models.errors import ModelError
from models.inference.batching import WINDOW_UNITS, Planner
from models.inference.engine import run_batch
from models.inference.steps import finish, prepare
from models.types import Outcome, Payload, Prepared, Task, Unit


@dataclass(slots=True)
class _Item:
    """A payload on its way: its place in the input, and the outputs of its units as they come."""

    index: int
    prepared: Prepared
    outputs: list[Any]
    missing: int = field(default=0)


Ticket = tuple[_Item, int]  # and the unit's place in it


def label_all(task: Task, payloads: Iterable[Payload]) -> Iterator[tuple[int, Outcome | ModelError]]:
    """Label payloads in batches; yields each one's index and its outcome or error, each exactly once.

    Results come as batches end, not in order. Reads `payloads` lazily, so that at most about two windows of
    units (512, and the units of one payload more) are held. Raises DeviceLost.
    """
    planner: Planner[Ticket] = Planner()
    budget = planner.add_task(task.name, task)
    numbered = enumerate(payloads)
    while True:
        for index, payload in islice(numbered, max(0, 2 * WINDOW_UNITS - len(planner))):
            done = _admit(planner, task, index, payload)
            if done is not None:
                yield index, done
            if len(planner) >= 2 * WINDOW_UNITS:
                break
        batch = planner.take(0.0)
        if batch is None:
            return
        ran = run_batch(task, [member.unit for member in batch.members])
        if ran.out_of_memory:
            budget.out_of_memory()
        else:
            budget.clean()
        for member, output in zip(batch.members, ran.outputs, strict=True):
            item, place = member.ticket
            item.outputs[place] = output
            item.missing -= 1
            if not item.missing:
                yield item.index, _finished(task, item)


def warm_up(task: Task) -> Unit | None:
    """Run the task's examples: the first alone, then all in batches. Returns a unit that the network handled.

    Raises the ModelError of an example that fails: a task that cannot do its own examples must not start.
    """
    known_good: Unit | None = None
    examples = task.examples()
    for group in (examples[:1], examples):
        for _, outcome in label_all(task, group):
            if isinstance(outcome, ModelError):
                raise outcome
    with torch.inference_mode():
        for one in getattr(task, "captures", ()):
            one.warm_up()
    for payload in examples[:1]:
        known_good = next(iter(task.prepare(payload).units), None)
    return known_good


def _admit(planner: Planner[Ticket], task: Task, index: int, payload: Payload) -> Outcome | ModelError | None:
    """Prepare a payload and queue its units; its result if there is nothing to run."""
    try:
        prepared = prepare(task, payload)
    except ModelError as error:
        return error
    item = _Item(index, prepared, [None] * len(prepared.units), missing=len(prepared.units))
    for place, unit in enumerate(prepared.units):
        planner.put(task.name, unit, (item, place), 0.0)
    return None if prepared.units else _finished(task, item)


def _finished(task: Task, item: _Item) -> Outcome | ModelError:
    try:
        return finish(task, item.prepared, item.outputs)
    except ModelError as error:
        item.outputs.clear()  # it may be among them, and would lead to itself
        return error
