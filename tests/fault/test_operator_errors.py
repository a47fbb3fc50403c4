"""What a person did wrong or forgot: one clear line with the remedy, the documented exit code, no stack trace."""

import socket
import subprocess
from pathlib import Path

import pytest

from processes import options_of, run_command
from running import settings_for

MISTAKE, ENVIRONMENT = 2, 3


def one_line(done: "subprocess.CompletedProcess[str]", code: int) -> str:
    """What it said, checked to be one line of ours; log lines before it begin with a date."""
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("20")]
    assert len(lines) == 1 and lines[0].startswith("headrace: "), done.stderr
    return lines[0]


def test_wrong_settings_are_listed_all_at_once(tmp_path: Path) -> None:
    done = run_command(
        ["worker", "--set=worker.grace_s=soon", "--set=kafka.bootstraps=x", "--set=taste.dim=63"],
        tmp_path,
        environment={"HEADRACE_TOPICS__PARTITIONS": "-1", "HEADRACE_NONSENSE": "1"},
    )
    assert done.returncode == MISTAKE, done.stderr
    for name in ("worker.grace_s", "kafka.bootstraps", "taste.dim", "topics.partitions", "HEADRACE_NONSENSE"):
        assert name in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 6


def test_an_unknown_agent(tmp_path: Path) -> None:
    said = one_line(run_command(["worker", "--agents", "clicks,videos"], tmp_path), MISTAKE)
    assert "'videos'" in said and "uploads" in said


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        said = one_line(run_command(["worker", f"--set=observe.port={port}"], tmp_path), ENVIRONMENT)
    assert f"127.0.0.1:{port}" in said and "observe.port" in said


@pytest.mark.parametrize(
    "lane",
    [pytest.param("embedded", marks=pytest.mark.embedded), pytest.param("kafka", marks=pytest.mark.kafka)],
)
def test_missing_topics(lane: str, request: pytest.FixtureRequest, topic_prefix: str, tmp_path: Path) -> None:
    bootstrap = request.getfixturevalue(f"{lane}_broker").bootstrap
    settings = settings_for(bootstrap, topic_prefix, ("clicks",))
    said = one_line(run_command(["worker", *options_of(settings)], tmp_path), ENVIRONMENT)
    assert "headrace topics apply" in said and "clicks.dlt" in said


@pytest.mark.kafka
def test_a_setting_that_the_broker_refuses(
    request: pytest.FixtureRequest, topic_prefix: str, tmp_path: Path
) -> None:
    bootstrap = request.getfixturevalue("kafka_broker").bootstrap
    too_short = {"session_timeout_s": 0.3, "heartbeat_interval_s": 0.1}
    settings = settings_for(bootstrap, topic_prefix, ("clicks",), kafka=too_short)
    assert run_command(["topics", "apply", *options_of(settings)], tmp_path).returncode == 0
    said = one_line(run_command(["worker", *options_of(settings)], tmp_path), ENVIRONMENT)
    assert "refuses" in said and "InvalidSessionTimeout" in said


@pytest.mark.embedded
def test_topics_with_other_partitions(
    request: pytest.FixtureRequest, topic_prefix: str, tmp_path: Path
) -> None:
    bootstrap = request.getfixturevalue("embedded_broker").bootstrap
    made = settings_for(bootstrap, topic_prefix, ("clicks",))
    assert run_command(["topics", "apply", *options_of(made)], tmp_path).returncode == 0
    wanted = settings_for(bootstrap, topic_prefix, ("clicks",), topics={"partitions": 6})
    said = one_line(run_command(["worker", *options_of(wanted)], tmp_path), ENVIRONMENT)
    assert "clicks has 4 partitions, not 6" in said


@pytest.mark.embedded
@pytest.mark.models
@pytest.mark.parametrize("damage", ["missing", "not a model", "wrong hash"])
def test_a_model_folder_that_cannot_be_used(
    damage: str, request: pytest.FixtureRequest, topic_prefix: str, tmp_path: Path
) -> None:
    bootstrap = request.getfixturevalue("embedded_broker").bootstrap
    folder = tmp_path / "my-model"
    section: dict[str, object] = {"tasks": {"sentiment": {"folder": str(folder)}}}
    if damage == "not a model":
        folder.mkdir()
    if damage == "wrong hash":
        folder = tmp_path / "cache"
        _damaged_cache(folder)
        section = {"cache": str(folder)}
    settings = settings_for(bootstrap, topic_prefix, ("uploads",), media=section)
    assert run_command(["topics", "apply", *options_of(settings)], tmp_path).returncode == 0
    said = one_line(run_command(["worker", *options_of(settings)], tmp_path), ENVIRONMENT)
    assert str(folder) in said


def _damaged_cache(folder: Path) -> None:
    """A copy of the user's cache with one byte of the picture model changed."""
    from streams.sections.media import Media

    (weights,) = (Media().cache).glob("efficientnet-lite0-*")
    copy = folder / weights.name
    copy.mkdir(parents=True)
    for file in weights.iterdir():
        raw = bytearray(file.read_bytes())
        if file.suffix == ".safetensors":
            raw[-1] ^= 1
        (copy / file.name).write_bytes(raw)
