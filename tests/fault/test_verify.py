"""`headrace verify` itself, short and seeded: real workers under faults come out as a plain reading of the log says."""

import json
from pathlib import Path

import pytest

from processes import run_command
from streams.settings import KAFKA_LIB_VARIABLE, kafka_lib

LANES = [
    pytest.param("embedded", "at_least_once", marks=pytest.mark.embedded),
    pytest.param("kafka", "at_least_once", marks=pytest.mark.kafka),
    pytest.param("kafka", "exactly_once", marks=pytest.mark.kafka),
]


@pytest.mark.parametrize(("broker", "delivery"), LANES)
def test_faults_change_nothing(broker: str, delivery: str, tmp_path: Path) -> None:
    asked = ["--broker", broker, "--delivery", delivery, "--seed", "11", "--json"]
    sizes = ["--clicks", "6000", "--media", "0", "--orders", "16", "--workers", "2", "--kills", "3"]
    lib = kafka_lib()
    ended = run_command(
        ["verify", *asked, *sizes], tmp_path, 380, {KAFKA_LIB_VARIABLE: str(lib)} if lib is not None else None
    )
    assert ended.stdout, ended.stderr
    report = json.loads(ended.stdout)
    assert report["differences"] == 0 and ended.returncode == 0, (report["first_differences"], ended.stderr)
    again = (
        report["found"]["clicks sent"] - 6000
    )  # one whose reader was forgotten in between is no duplicate any more
    assert 0 <= again - report["found"]["clicks sent twice"] <= 16
    assert report["found"]["orders of readers with a receipt"] == 16
    kinds = [fault["kind"] for fault in report["faults"]]
    others = {"broker", "network", "partition"} if broker == "kafka" else set()
    assert kinds.count("kill") == 3 and set(kinds) == {"kill", "term", "stop", "clock", "disk"} | others


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--faults", "kill,flood"], "flood"),
        (["--delivery", "exactly_once"], "no transactions"),
        (["--broker", "rabbit"], "kafka and embedded"),
        (["--delivery", "at_most_once"], "exactly_once"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], said: str, tmp_path: Path) -> None:
    ended = run_command(["verify", *arguments], tmp_path)
    assert ended.returncode == 2
    assert said in ended.stderr and "Traceback" not in ended.stderr
