"""One batch on one device, so that one bad unit costs only itself.

What can happen to a batch, and what is done about it:

    out of memory        the halves run one after the other; a unit that is too much alone gets OutOfMemory
    forward raises       the halves run; the one unit that fails alone gets BadInput("poison")
    output not finite    those rows run again; the one that stays so alone gets BadInput("poison")
    the device is ruined DeviceRuined at once: after an illegal address every further answer may be wrong
    all units fail       a unit known to be good runs; if it fails too, DeviceLost: it is not the input

k bad units in a batch of n cost at most 2 k log2(n) + 1 forwards. Knows torch, but no task and no thread.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from models.errors import BadInput, DeviceLost, DeviceRuined, ModelError, OutOfMemory
from models.inference.steps import kind_and_place
from models.types import Task, Unit


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a batch: one output or error a unit, in order; whether memory ran out on the way; how many
    forwards it took, 1 unless something went wrong."""

    outputs: list[Any | ModelError]
    out_of_memory: bool
    forwards: int = 1


@dataclass(frozen=True, slots=True)
class _Failed:
    """Why an attempt gave no outputs, without its traceback: that would keep the batch's tensors alive."""

    error: ModelError
    out_of_memory: bool = False


def run_batch(task: Task, units: Sequence[Unit], known_good: Unit | None = None) -> Ran:
    """Outputs of all units, in order, an error in the place of each that has none.

    Call from the thread that owns the device. Raises DeviceLost.
    """
    if not units:
        return Ran([], out_of_memory=False, forwards=0)
    got = _attempt(task, list(units))
    if not isinstance(got, _Failed) and _all_finite(got):
        return Ran(got, out_of_memory=False)
    return _in_parts(task, units, got, known_good)


def _in_parts(task: Task, units: Sequence[Unit], got: list[Any] | _Failed, known_good: Unit | None) -> Ran:
    """After a first attempt that failed, in whole or for some rows."""
    results: dict[int, Any | ModelError] = {}
    ran_out, forwards = False, 0
    pending = [list(range(len(units)))]
    while pending:
        rows = pending.pop()
        forwards += 1
        if forwards > 1:
            got = _attempt(task, [units[row] for row in rows])
        if isinstance(got, _Failed):
            if got.out_of_memory:
                ran_out = True
                _free_device_memory()
            if len(rows) == 1:
                results[rows[0]] = got.error
            else:
                pending += _halves(rows)
            continue
        bad = [row for row, output in zip(rows, got, strict=True) if not _finite(output)]
        results.update((row, output) for row, output in zip(rows, got, strict=True) if row not in bad)
        if bad and len(rows) == 1:
            results[bad[0]] = BadInput("poison", "the network's output is not finite")
        elif bad:
            # Fewer than before, or cut in two: either way this ends.
            pending += [bad] if len(bad) < len(rows) else _halves(bad)
    outputs = [results[row] for row in range(len(units))]
    if known_good is not None and all(_is_poison(output) for output in outputs):
        _probe(task, known_good)
    return Ran(outputs, ran_out, forwards)


def _attempt(task: Task, units: list[Unit]) -> list[Any] | _Failed:
    """One forward. All that the exception holds on to is gone when this returns."""
    try:
        with torch.inference_mode():
            outputs = task.forward(units)
    except (torch.OutOfMemoryError, MemoryError):
        message = f"no memory for {len(units)} units, the longest of {max(unit.length for unit in units)}"
        return _Failed(OutOfMemory(message), out_of_memory=True)
    except ModelError as error:
        if isinstance(error, DeviceLost):
            raise
        error.__cause__ = error.__context__ = None
        return _Failed(error.with_traceback(None), out_of_memory=isinstance(error, OutOfMemory))
    except Exception as error:  # whatever a network can raise; each ends as one unit's error or as DeviceLost
        if _is_cpu_out_of_memory(error):
            return _Failed(OutOfMemory(f"no memory for {len(units)} units"), out_of_memory=True)
        if _ruins_device(error):
            raise DeviceRuined(
                f"{task.name}: {kind_and_place(error)}: the device must be started anew"
            ) from None
        return _Failed(BadInput("poison", f"forward failed with {kind_and_place(error)}"))
    if len(outputs) != len(units):
        raise DeviceLost(f"{task.name} gave {len(outputs)} outputs for {len(units)} units")
    return outputs if type(outputs) is list else list(outputs)


def _probe(task: Task, known_good: Unit) -> None:
    got = _attempt(task, [known_good])
    if isinstance(got, _Failed):
        raise DeviceLost(f"{task.name} fails on its own example too: {got.error}") from None
    if not _finite(got[0]):
        raise DeviceLost(f"{task.name} gives outputs that are not finite on its own example too")


def _halves(rows: list[int]) -> list[list[int]]:
    """Second half first: the list is a stack."""
    middle = len(rows) // 2
    return [rows[middle:], rows[:middle]]


def _is_poison(output: object) -> bool:
    return isinstance(output, BadInput) and output.reason == "poison"


def _all_finite(outputs: list[Any]) -> bool:
    """Whether none has a NaN or infinity; numbers, and arrays of one shape, are looked at together."""
    kinds = set(map(type, outputs))
    if kinds == {float}:
        return all(map(math.isfinite, outputs))
    if kinds == {np.ndarray} and len({(one.shape, one.dtype) for one in outputs}) == 1:
        return _finite(np.asarray(outputs))
    return all(map(_finite, outputs))


def _finite(output: object) -> bool:
    """Whether an output (number, array, tensor, container of them) is free of NaN and infinity."""
    if isinstance(output, float):
        return math.isfinite(output)
    if isinstance(output, np.ndarray | np.generic):
        return not np.issubdtype(output.dtype, np.inexact) or bool(np.isfinite(output).all())
    if isinstance(output, torch.Tensor):
        return not output.is_floating_point() or bool(torch.isfinite(output).all())
    if isinstance(output, Mapping):
        return all(_finite(value) for value in output.values())
    if isinstance(output, list | tuple):
        return all(_finite(value) for value in output)
    return True


def _is_cpu_out_of_memory(error: Exception) -> bool:
    # torch has no class of its own for it: c10/core/CPUAllocator.cpp raises RuntimeError with this text.
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _ruins_device(error: Exception) -> bool:
    """Asynchronous CUDA faults (illegal address, device assert) spoil the process's context for good."""
    sticky = getattr(torch, "AcceleratorError", ())  # since torch 2.9; a RuntimeError before
    return isinstance(error, sticky) or (isinstance(error, RuntimeError) and "CUDA error" in str(error))


def _free_device_memory() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
