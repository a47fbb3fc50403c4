"""The README's ten minutes, typed as they stand into a shell beside a running demo."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.demo.server import free_ports

pytestmark = pytest.mark.embedded

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
WITHIN_S = 90.0


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Broker and page of a demo without models, which has made lists."""
    broker, page = free_ports(2)
    command = [sys.executable, "-m", "streams", "demo", "--no-media", "--port", str(broker), "--rate", "80"]
    with (tmp_path / "demo").open("w") as said:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "HEADRACE_OBSERVE__PORT": str(page)}
        process = subprocess.Popen(command, cwd=tmp_path, stdout=said, stderr=said, env=environment)
        try:
            _until_lists(page)
            yield broker, page
        finally:
            process.terminate()
            process.wait(30)


def _until_lists(page: int) -> None:
    until_s = time.monotonic() + WITHIN_S
    while time.monotonic() < until_s:
        time.sleep(0.5)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{page}/metrics", timeout=5) as answer:
                found = re.search(
                    rb"^headrace_recommendations_total ([0-9.e+]+)", answer.read(), re.MULTILINE
                )
        except OSError:
            continue
        if found and float(found[1]) > 500:
            return
    raise AssertionError("the demo makes no lists")


def test_the_readmes_ten_minutes(ports: tuple[int, int], tmp_path: Path) -> None:
    found = re.search(r"<!-- tutorial -->\n```sh\n(.*?)```", README, re.DOTALL)
    assert found is not None
    broker, page = ports
    script = found[1].replace("127.0.0.1:8780", f"127.0.0.1:{page}")
    commands = tmp_path / ".venv" / "bin"
    commands.mkdir(parents=True)
    (commands / "headrace").write_text(f'#!/bin/sh\nexec {sys.executable} -m streams "$@"\n')
    (commands / "headrace").chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HEADRACE_KAFKA__BOOTSTRAP": f"127.0.0.1:{broker}"}
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    answers = [json.loads(one) for one in re.findall(r'\{"user":"me".*\}', ended.stdout)]
    first, explained, last = answers
    reasons = [reason for item in first["items"] for reason in item["reasons"]]
    assert any(reason.get("because") == "space-03" for reason in reasons)
    causes = [cause["item"] for item in explained["items"] for cause in item["causes"]]
    assert {"space-03", "chess-03"} <= set(causes)
    assert "chess-03" not in json.dumps([item["reasons"] for item in last["items"]])
    assert "space-07" not in [item["item"] for item in last["items"]]
    assert "clicks: " in ended.stdout and "undecodable" in ended.stdout
    assert ended.stdout.count("done in partition") == 2
