"""The benchmark of clicks at a tiny size, through the real command: its JSON, and that nobody skips work."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from streams.bench import scale
from streams.bench.place import Cores, Place
from streams.demo.kafka import KafkaBroker

CLICKS, FAUST_CLICKS = 2000, 400


@pytest.mark.embedded
def test_bench_clicks_prints_its_result_and_every_contender_did_every_click() -> None:
    arguments = ["--broker", "embedded", "--clicks", str(CLICKS), "--faust-clicks", str(FAUST_CLICKS)]
    sizes = ["--users", "300", "--items", "60"]
    ended = subprocess.run(
        [sys.executable, "-m", "streams", "bench", "clicks", "--json", *arguments, *sizes],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout)

    assert set(result) == {"bench", "machine", "rows", "ratios"}
    assert result["bench"] == "clicks" and result["machine"]["lane"] == "embedded"
    rows = {row["case"]: row for row in result["rows"]}
    done = {name: row["clicks"] for name, row in rows.items()}
    assert done == {
        "headrace": CLICKS,
        "bare_loop": CLICKS,
        "headrace_lists": CLICKS,
        "plain_faust": FAUST_CLICKS,
    }
    assert rows["headrace"]["users"] == rows["bare_loop"]["users"] == rows["headrace_lists"]["users"] > 200
    for row in rows.values():
        assert row["outputs"] >= row["users"]  # each touched reader was published
        assert row["clicks_per_s"] > 0 and row["rss_mb"] > 0 and row["state_bytes_per_user"] > 0
        assert 0 < row["cpu_cores_used"] <= 1.1
    assert all(value > 0 for value in result["ratios"].values())
    assert {"vs_faust", "vs_bare_loop", "lists_vs_faust"} <= set(result["ratios"])


def test_delivery_compares_the_two_in_one_run(kafka_broker: object) -> None:
    """The benchmark starts a Kafka of its own; the fixture only says whether this machine can."""
    sizes = ["--clicks", str(CLICKS), "--users", "300", "--items", "60", "--seconds", "2", "--rate", "200"]
    ended = subprocess.run(
        [sys.executable, "-m", "streams", "bench", "delivery", "--json", *sizes],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout)
    rows = {row["case"]: row for row in result["rows"]}
    assert rows["exactly_once"]["clicks"] == rows["at_least_once"]["clicks"] == CLICKS
    assert rows["exactly_once_latency"]["p99_ms"] > rows["exactly_once_latency"]["p50_ms"] > 0
    assert result["ratios"]["exactly_once_vs_at_least_once"] > 0


@pytest.mark.embedded
def test_recovery_reads_everybody_back_with_and_without_a_snapshot() -> None:
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "streams",
            "bench",
            "recovery",
            "--json",
            "--broker",
            "embedded",
            "--users",
            "200",
        ],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout)
    rows = {row["case"]: row for row in result["rows"]}
    readers = {name: (row["readers"], row["records"]) for name, row in rows.items()}
    assert readers == {
        "recover": (400, 400),
        "load": (400, 400),
        "restart": (100, 805),  # each row 8 times, and 5 since the snapshot
        "restart_from_snapshot": (100, 105),
    }
    assert result["ratios"]["snapshot_vs_log"] > 0


def test_scale_plays_the_feed_through_each_number_of_workers_and_moves_state(
    kafka_broker: KafkaBroker,
) -> None:
    place = Place(kafka_broker.bootstrap, "kafka", Cores(frozenset(), frozenset()))
    found = scale.run(place, scale.Plan(3000, 300, 60, workers=(1, 2), output="touched"), lambda line: None)

    one, two = found.rows
    assert (one["workers"], one["fewest_partitions"], one["most_partitions"]) == (1, 12, 12)
    assert (two["workers"], two["fewest_partitions"], two["most_partitions"]) == (2, 6, 6)
    for row, moved in ((one, 6), (two, 4)):
        assert row["moved_partitions"] == moved and row["moved_rows"] > 0 and row["recovery_s"] > 0
        assert row["clicks_per_s"] > 0 and row["join_s"] > 0
    assert set(found.ratios) == {"workers_2_vs_1"}
