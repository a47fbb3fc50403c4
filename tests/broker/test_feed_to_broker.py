"""What is fed arrives: in order per reader, keyed as every Kafka client keys, with CloudEvents headers."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from streams.cli.run import run
from streams.demo.server import free_ports
from streams.settings import load
from streams.topology import admin

READERS = 50


@pytest.fixture(
    params=[pytest.param(lane, marks=getattr(pytest.mark, lane)) for lane in ("embedded", "kafka")]
)
def globals_(request: pytest.FixtureRequest, topic_prefix: str) -> list[str]:
    """Global options for a cluster with the topics of this test."""
    broker: Any = request.getfixturevalue(f"{request.param}_broker")
    kafka = {"bootstrap": broker.bootstrap, "topic_prefix": topic_prefix}
    asyncio.run(admin.apply(load(None, {"kafka": kafka, "topics": {"partitions": 3}})))
    return ["--set", f"kafka.bootstrap={broker.bootstrap}", "--set", f"kafka.topic_prefix={topic_prefix}"]


def tailed(globals_: list[str], topic: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert run([*globals_, "tail", topic, "--from-beginning", "--no-follow", "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_clicks_arrive_in_order_per_reader_and_the_same_again(
    globals_: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        {"user": f"u{n % READERS}", "item": str(n), "kind": "click", "at": 1_700_000_000_000 + n}
        for n in range(5000)
    ]
    path = tmp_path / "clicks.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in reversed(lines)) + "broken\n")

    for _ in range(2):
        assert run([*globals_, "feed", str(path), "--format", "jsonl", "--speed", "max", "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
        assert result["sent"] == {"clicks": 5000}
        assert result["bad_lines"][0][0] == 5001
    records = tailed(globals_, "clicks", capsys)

    assert len(records) == 10_000
    assert len({record["partition"] for record in records}) == 3
    for user in ("u0", "u7"):
        mine = [record for record in records if record["key"] == user]
        assert len({record["partition"] for record in mine}) == 1
        expected = [line["item"] for line in lines if line["user"] == user]
        assert [record["value"]["item"] for record in mine] == expected * 2
    assert len({record["value"]["id"] for record in records}) == 5000
    headers = records[0]["headers"]
    assert headers["ce_id"] == records[0]["value"]["id"]
    assert headers["ce_type"] == "media.click.v1"
    assert headers["ce_time"].startswith("2023-11-14T22:13:2")
    assert set(headers) == {"ce_id", "ce_type", "ce_source", "ce_time", "ce_specversion", "content-type"}


def test_the_partition_is_the_one_that_other_clients_pick(
    globals_: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from aiokafka.partitioner import DefaultPartitioner

    for user in ("ada", "日本", "x" * 40):
        event = json.dumps({"user": user, "item": "i", "kind": "click"})
        assert run([*globals_, "send", "clicks", event]) == 0
    for record in tailed(globals_, "clicks", capsys):
        assert record["partition"] == DefaultPartitioner()(record["key"].encode(), [0, 1, 2], [0, 1, 2])


def test_speed_paces_by_recorded_time(
    globals_: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "clicks.jsonl"
    path.write_text(
        "".join(
            json.dumps({"user": "u", "item": str(n), "kind": "click", "at": 1_700_000_000_000 + n * 10_000})
            + "\n"
            for n in range(5)
        )
    )
    assert run([*globals_, "feed", str(path), "--format", "jsonl", "--speed", "50", "--json"]) == 0

    # 40 recorded seconds, 50 times as fast: 0.8, and what a busy machine adds
    assert 0.8 <= json.loads(capsys.readouterr().out)["seconds"] < 20


def test_raw_bytes_and_a_limit(globals_: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("no json", "{}"):
        assert run([*globals_, "send", "clicks", text, "--raw", "--key", "k"]) == 0
    assert [record["value"] for record in tailed(globals_, "clicks", capsys)] == ["no json", {}]
    assert run([*globals_, "tail", "clicks", "--from-beginning", "-n", "1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_feeding_without_a_broker_is_exit_code_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"user":"u","item":"i","kind":"click","at":5}\n')
    nowhere = f"kafka.bootstrap=127.0.0.1:{free_ports(1)[0]}"

    assert run(["--set", nowhere, "feed", str(path), "--format", "jsonl"]) == 3
    assert "no answer from a Kafka broker" in capsys.readouterr().err
