"""What one bad unit costs: itself. The task is a fake because its faults are; engine and torch are real."""

import gc
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.errors import BadInput, DeviceLost, OutOfMemory
from models.inference.engine import run_batch
from models.types import Finding, LoadOptions, ModelInfo, Outcome, Payload, Prepared, Unit


class Doubler:
    """Doubles each unit's number; raises on chosen ones, and runs out of memory above a number of rows."""

    name = "double"
    model = ModelInfo("double", "1", "", "float64")
    batch_cost = 1000
    max_units = 100

    def __init__(self, bad: Sequence[int] = (), nan: Sequence[int] = (), rows: int = 1000) -> None:
        self.bad, self.nan, self.rows = set(bad), set(nan), rows
        self.calls: list[int] = []
        self.error: Exception = ValueError("secret payload text")

    @classmethod
    def load(cls, options: LoadOptions) -> "Doubler":
        return cls()

    @classmethod
    def accepts(cls, media_type: str) -> bool:
        return True

    def prepare(self, payload: Payload) -> Prepared:
        return Prepared((Unit(1, int(payload.data)),))

    def forward(self, units: Sequence[Unit]) -> list[Any]:
        assert torch.is_inference_mode_enabled()
        self.calls.append(len(units))
        if len(units) > self.rows:
            raise torch.OutOfMemoryError("too many rows")
        if any(unit.data in self.bad for unit in units):
            raise self.error
        return [{"twice": np.array([np.nan if unit.data in self.nan else 2.0 * unit.data])} for unit in units]

    def finish(self, prepared: Prepared, outputs: Sequence[Any]) -> Outcome:
        return Outcome((Finding(self.name, float(outputs[0]["twice"][0])),))

    def examples(self) -> Sequence[Payload]:
        return [Payload("text/plain", b"1")]


def units(count: int) -> list[Unit]:
    return [Unit(1, number) for number in range(count)]


def summary(outputs: list[Any]) -> list[Any]:
    return [output["twice"][0] if isinstance(output, dict) else type(output) for output in outputs]


def test_outputs_come_in_order_in_one_forward() -> None:
    task = Doubler()
    ran = run_batch(task, units(5))
    assert summary(ran.outputs) == [0, 2, 4, 6, 8]
    assert task.calls == [5]
    assert not ran.out_of_memory


def test_an_empty_batch_runs_nothing() -> None:
    task = Doubler()
    assert run_batch(task, []).outputs == []
    assert task.calls == []


@pytest.mark.parametrize("bad", [[0], [7], [63], [3, 40], [10, 11]])
def test_the_culprits_are_found_by_bisection(bad: list[int]) -> None:
    task = Doubler(bad=bad)
    outputs = run_batch(task, units(64)).outputs
    assert [row for row, output in enumerate(outputs) if isinstance(output, BadInput)] == bad
    assert all(outputs[row].reason == "poison" for row in bad)
    assert [value for value in summary(outputs) if value is not BadInput] == [
        2 * row for row in range(64) if row not in bad
    ]
    assert len(task.calls) <= 2 * len(bad) * 6 + 1


def test_the_message_says_where_but_not_what() -> None:
    outputs = run_batch(Doubler(bad=[0]), units(1)).outputs
    assert "ValueError at test_engine.py" in str(outputs[0])
    assert "secret" not in str(outputs[0])


@pytest.mark.parametrize("nan", [[0], [5], [1, 6], list(range(8))])
def test_what_is_not_finite_is_an_error_and_no_label(nan: list[int]) -> None:
    task = Doubler(nan=nan)
    outputs = run_batch(task, units(8)).outputs
    assert [row for row, output in enumerate(outputs) if isinstance(output, BadInput)] == nan
    assert summary(outputs)[2] == (4 if 2 not in nan else BadInput)


def test_one_row_that_spoils_all_others_is_found() -> None:
    class Mixing(Doubler):
        def forward(self, units: Sequence[Unit]) -> list[Any]:
            spoilt = any(unit.data == 5 for unit in units)
            return [np.array([np.inf if spoilt else 1.0]) for _ in units]

    outputs = run_batch(Mixing(), units(16)).outputs
    assert [row for row, output in enumerate(outputs) if isinstance(output, BadInput)] == [5]


def test_a_batch_too_large_for_memory_runs_in_parts() -> None:
    task = Doubler(rows=3)
    ran = run_batch(task, units(10))
    assert summary(ran.outputs) == [2 * number for number in range(10)]
    assert ran.out_of_memory
    assert task.calls == [10, 5, 2, 3, 5, 2, 3]


def test_a_unit_too_large_alone_is_out_of_memory() -> None:
    outputs = run_batch(Doubler(rows=0), units(2)).outputs
    assert summary(outputs) == [OutOfMemory, OutOfMemory]


def test_memory_that_the_cpu_cannot_give_counts_as_out_of_memory() -> None:
    class Greedy(Doubler):
        def forward(self, units: Sequence[Unit]) -> list[Any]:
            torch.empty(2**52 * len(units))
            return []

    assert summary(run_batch(Greedy(), units(2)).outputs) == [OutOfMemory, OutOfMemory]


def test_a_failed_attempt_leaves_no_tensor_alive() -> None:
    held: list[weakref.ref[torch.Tensor]] = []

    class Leaky(Doubler):
        def forward(self, units: Sequence[Unit]) -> list[Any]:
            for ref in held:
                assert ref() is None, "the tensors of the failed attempt are still held"
            large = torch.zeros(10)
            held.append(weakref.ref(large))
            raise torch.OutOfMemoryError("no")

    gc.disable()  # the memory must be free at once, not after a collection
    try:
        run_batch(Leaky(), units(4))
    finally:
        gc.enable()
    assert len(held) == 7


def test_a_task_that_fails_on_what_it_could_do_stops_the_device() -> None:
    task = Doubler(bad=range(10))
    with pytest.raises(DeviceLost, match="its own example"):
        run_batch(task, units(4), known_good=Unit(1, 5))


def test_a_batch_of_poison_alone_does_not_stop_the_device() -> None:
    task = Doubler(bad=[0, 1])
    assert summary(run_batch(task, units(2), known_good=Unit(1, 5)).outputs) == [BadInput, BadInput]


def test_a_ruined_device_is_not_asked_again() -> None:
    task = Doubler(bad=[0])
    task.error = RuntimeError("CUDA error: an illegal memory access was encountered")
    with pytest.raises(DeviceLost):
        run_batch(task, units(4))
    assert task.calls == [4]


def test_a_missing_output_is_never_given_to_the_wrong_unit() -> None:
    class Short(Doubler):
        def forward(self, units: Sequence[Unit]) -> list[Any]:
            return super().forward(units)[1:]

    with pytest.raises(DeviceLost, match="3 outputs for 4 units"):
        run_batch(Short(), units(4))


def test_the_fake_is_a_task(tmp_path: Path) -> None:
    from models.types import Task

    task: Task = Doubler.load(LoadOptions(cache=tmp_path))
    assert task.finish(task.prepare(Payload("", b"2")), run_batch(task, [Unit(1, 2)]).outputs) == Outcome(
        (Finding("double", 4.0),)
    )
