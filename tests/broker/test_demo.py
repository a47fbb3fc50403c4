"""`headrace demo` as a user runs it: lists follow tastes; it ends by Ctrl-C, by time and with a dead worker."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

pytestmark = pytest.mark.embedded

ROOT = Path(__file__).parents[2]
WITHIN_S = 90.0


@contextmanager
def playing(folder: Path, *sets: str, rate: int) -> Iterator[subprocess.Popen[str]]:
    """Clicks and items only: no models to load. Its messages go to the file `err`."""
    command = [sys.executable, "-m", "streams", *sets, "demo", "--no-media", "--json", "--readers", "40"]
    with (folder / "err").open("w") as errors:
        process = subprocess.Popen(
            [*command, "--rate", str(rate)],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HEADRACE_OBSERVE__PORT": "0"},
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with playing(tmp_path, rate=80) as process:
        yield process


def shots(out: IO[str]) -> Iterator[dict[str, Any]]:
    until_s = time.monotonic() + WITHIN_S
    for line in out:
        assert time.monotonic() < until_s, "not in time"
        yield json.loads(line)


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in found for child in file.read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_lists_follow_tastes_and_ctrl_c_ends_everything(demo: subprocess.Popen[str], tmp_path: Path) -> None:
    assert demo.stdout is not None
    shown: list[bool] = []
    for shot in shots(demo.stdout):
        shown += [
            bool(set(place["topics"]) & set(reader["tastes"]))
            for reader in shot["readers"]
            for place in reader["list"][:1]
        ]
        if shot["flows"]["clicks"]["records"] > 600:
            break
    first_list_s = shot["first_list_s"]
    processes = children(demo.pid)
    demo.send_signal(signal.SIGINT)

    assert demo.wait(30) == 0, (tmp_path / "err").read_text()
    assert "stopped: the worker ended in" in (tmp_path / "err").read_text()
    assert "the live page: http://127.0.0.1:" in (tmp_path / "err").read_text()
    assert len(processes) == 2  # broker and worker
    assert not any(map(alive, processes))
    assert first_list_s < 30
    # By chance one in eight would fit, or a little more for readers of two topics.
    assert sum(shown[-20:]) > len(shown[-20:]) / 2


def test_a_worker_that_dies_ends_the_demo_with_1_and_its_log(
    demo: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert demo.stdout is not None
    next(shots(demo.stdout))
    worker = next(pid for pid in children(demo.pid) if "worker" in Path(f"/proc/{pid}/cmdline").read_text())
    os.kill(worker, signal.SIGKILL)

    assert demo.wait(30) == 1
    errors = (tmp_path / "err").read_text()
    assert "the worker has ended by itself" in errors
    assert "worker.log" in errors
    assert "Traceback" not in errors


def test_a_full_broker_begins_a_new_round_on_the_same_ports(tmp_path: Path) -> None:
    with playing(tmp_path, "--set", "demo.broker_memory_mb=40", rate=1000) as demo:
        assert demo.stdout is not None
        clicks = 0
        for shot in shots(demo.stdout):
            before, clicks = clicks, shot["flows"]["clicks"]["records"]
            if clicks < before:  # counted anew
                break
        demo.send_signal(signal.SIGINT)
        assert demo.wait(30) == 0, (tmp_path / "err").read_text()
    said = (tmp_path / "err").read_text().splitlines()
    assert sum("is full: starting anew" in line for line in said) == 1
    brokers = [line for line in said if "embedded broker on" in line]
    pages = [line for line in said if "the live page" in line]
    assert len(brokers) == len(pages) == 2
    assert len(set(brokers)) == len(set(pages)) == 1
    assert said[-1].startswith("stopped: the worker ended in")


def test_a_time_and_a_broker_of_ones_own(embedded_broker: Any, topic_prefix: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "streams", "demo", "--no-media", "--seconds", "4", "--rate", "20"),
            *("--bootstrap", embedded_broker.bootstrap, "--set", f"kafka.topic_prefix={topic_prefix}"),
            *("--set", f"kafka.group={topic_prefix}", "--set", "observe.port=0"),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
    )
    assert done.returncode == 0, done.stderr
    assert "embedded broker" not in done.stdout
    assert "clicks" in done.stdout
    assert embedded_broker.pid is not None  # still ours
