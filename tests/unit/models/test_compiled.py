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


LOOP = """
import numpy as np
from models.compiled import compiled

@compiled("void(float32[::1])")
def double(values):
    for i in range(len(values)):
        values[i] *= 2

values = np.ones(2, np.float32)
double(values)
print(values)
"""


def test_for_a_debugger_the_same_loop_runs_as_python(tmp_path: Path) -> None:
    assert _doubled(tmp_path, NUMBA_DISABLE_JIT="1") == "[2. 2.]"


def test_where_nothing_can_be_written_a_loop_is_compiled_and_not_kept(tmp_path: Path) -> None:
    (tmp_path / "__pycache__").touch()  # a file: no folder beside the source

    assert _doubled(tmp_path, HOME="/dev/null", NUMBA_CACHE_DIR="/dev/null/kept") == "[2. 2.]"


def test_what_was_kept_and_cannot_be_read_is_made_anew(tmp_path: Path) -> None:
    _doubled(tmp_path)
    kept = list(tmp_path.glob("__pycache__/*double*"))
    for path in kept:
        path.unlink()
        path.mkdir()

    assert kept
    assert _doubled(tmp_path) == "[2. 2.]"


def _doubled(folder: Path, **environment: str) -> str:
    """What a process of its own prints."""
    (folder / "loop.py").write_text(LOOP)
    done = subprocess.run(
        [sys.executable, str(folder / "loop.py")],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout.strip() or done.stderr
