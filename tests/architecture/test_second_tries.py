"""Of the runs of tests: a second try is for tests of processes alone, named, and bounded for the whole run."""

import subprocess
import sys
from pathlib import Path

import pytest

from lanes import SECOND_TRIES

SUPPORT = Path(__file__).parents[1] / "support"
CONFTEST = """
from lanes import Lanes

def pytest_configure(config):
    config.pluginmanager.register(Lanes(set()), "lanes")
"""
TESTS = """
from pathlib import Path
import pytest

@pytest.mark.parametrize("n", range({count}))
def test_at_first_it_fails(n):
    been = Path(__file__).with_name(f"been{{n}}")
    there = been.exists()
    been.touch()
    assert there, "the first try"
"""


def ran(folder: Path, kind: str, count: int, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / kind).mkdir()
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / kind / "test_it.py").write_text(TESTS.format(count=count))
    marks = "pure mock embedded kafka models tool"
    (folder / "pytest.ini").write_text(
        f"[pytest]\npythonpath = {SUPPORT} {SUPPORT.parents[1]}\nmarkers =\n"
        + "".join(f"  {mark}: x\n" for mark in marks.split())
    )
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(folder / kind)]
    return subprocess.run(run, cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["one process", "xdist"])
def test_a_few_pass_the_second_time_and_are_named(tmp_path: Path, options: tuple[str, ...]) -> None:
    run = ran(tmp_path, "fault", SECOND_TRIES, *options)
    assert run.returncode == 0, run.stdout
    assert "second try: fault/test_it.py::test_at_first_it_fails[1]" in run.stdout
    assert (
        "AssertionError: the first try" in run.stdout
        and f"second tries: {SECOND_TRIES} of {SECOND_TRIES}" in run.stdout
    )


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["one process", "xdist"])
def test_more_fail_the_run(tmp_path: Path, options: tuple[str, ...]) -> None:
    run = ran(tmp_path, "fault", SECOND_TRIES + 1, *options)
    assert run.returncode == 1 and "this run has failed" in run.stdout, run.stdout


def test_a_pure_test_has_one_try(tmp_path: Path) -> None:
    run = ran(tmp_path, "unit", 1)
    assert run.returncode == 1 and "1 failed" in run.stdout, run.stdout
