"""Compiled loops: strict about types, quiet about when they are made."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.compiled import compiled, part, warm_up

ROOT = Path(__file__).parents[3]


@part
def _twice(value: float) -> float:
    return 2 * value


@compiled("void(float32[::1], int64)")
def double_from(values: NDArray[np.float32], start: int) -> None:
    for i in range(start, len(values)):
        values[i] = _twice(values[i])


def test_a_loop_does_what_it_says_whether_or_not_it_was_warmed_up() -> None:
    first, second = np.ones(4, np.float32), np.ones(4, np.float32)

    double_from(first, 1)
    assert warm_up() > 0
    double_from(second, 1)

    assert first.tolist() == second.tolist() == [1, 2, 2, 2]


@pytest.mark.parametrize(
    "given",
    [np.ones(4, np.float64), np.ones(8, np.float32)[::2], np.ones((2, 2), np.float32)],
    ids=["other numbers", "gaps", "more axes"],
)
def test_other_types_are_refused_instead_of_compiled_while_records_wait(given: NDArray[np.float32]) -> None:
    with pytest.raises(TypeError, match="No matching definition"):
        double_from(given, 1)


def test_for_a_debugger_the_same_loop_runs_as_python() -> None:
    code = "import numpy as np; from test_compiled import double_from; a = np.ones(3, np.float32); "
    code += "double_from(a, 2); print(a)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "NUMBA_DISABLE_JIT": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)]),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.stdout.strip() == "[1. 1. 2.]", done.stderr
