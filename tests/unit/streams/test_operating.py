"""Traces, logs for machines, the AsyncAPI document, completion, and what the doctor calls unsafe."""

import asyncio
import io
import json
import logging
import stat
from pathlib import Path
from typing import Any

import pytest

from streams import doctor
from streams.cli.commands import COMMANDS
from streams.cli.run import run
from streams.events import EVENT_TYPES
from streams.observe.logs import JsonLines
from streams.settings import load
from streams.topology.asyncapi import document
from streams.topology.topics import TOPOLOGY
from streams.traces import carried, trace_id

ROOT = Path(__file__).parents[3]
PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    "parent",
    [
        b"",
        b"00",
        PARENT[:-1],
        PARENT.upper(),
        b"ff" + PARENT[2:],
        b"00-" + b"0" * 32 + PARENT[35:],
        PARENT[:36] + b"0" * 16 + b"-01",
        PARENT + b"\n",
        b"x" * 5000,
        None,
    ],
)
def test_what_is_no_trace_is_not_carried(parent: Any) -> None:
    assert carried([("traceparent", parent), ("tracestate", b"a=b")]) == [] == carried([])
    assert trace_id([("traceparent", parent)]) is None


def test_a_trace_is_carried_byte_for_byte_and_nothing_else() -> None:
    headers = [("ce_id", b"1"), ("tracestate", b"a=b"), ("traceparent", PARENT), ("secret", b"x")]
    assert carried(headers) == [("traceparent", PARENT), ("tracestate", b"a=b")]
    assert carried([("traceparent", PARENT), ("tracestate", b"x" * 513)]) == [("traceparent", PARENT)]
    assert trace_id(headers) == "4bf92f3577b34da6a3ce929d0e0e4736"


def test_a_json_line_is_one_line_with_its_fields_and_escapes_control_characters() -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonLines())
    log = logging.Logger("streams.test")
    log.addHandler(handler)
    log.warning(
        "a\n\x1b[31mred %s", "x", extra={"topic": "clicks", "partition": 0, "offset": 7, "trace_id": None}
    )
    try:
        raise ValueError("two\nlines")
    except ValueError:
        log.exception("broken")

    first, second = map(json.loads, written.getvalue().splitlines())
    assert first["message"] == "a\n\x1b[31mred x" and first["level"] == "warning"
    assert (first["topic"], first["partition"], first["offset"]) == (
        "clicks",
        0,
        7,
    ) and "trace_id" not in first
    assert "ValueError" in second["error"] and first["time"].endswith("Z")
    assert "\x1b" not in written.getvalue()


def test_the_committed_document_has_not_drifted() -> None:
    """After a meant change: `headrace topics asyncapi > docs/asyncapi.json`."""
    assert json.loads((ROOT / "docs/asyncapi.json").read_text(encoding="utf-8")) == document()


def test_the_document_has_every_topic_and_every_reference_in_it_leads_somewhere() -> None:
    made = document("site.")
    assert set(made["channels"]) == {topic.name for topic in TOPOLOGY}
    assert made["channels"]["clicks"]["address"] == "site.clicks"
    assert set(made["components"]["messages"]) == set(EVENT_TYPES)

    def follow(node: Any) -> int:
        if isinstance(node, list):
            return sum(map(follow, node))
        if not isinstance(node, dict):
            return 0
        found = 0
        if "$ref" in node:
            place: Any = made
            for step in node["$ref"].removeprefix("#/").split("/"):
                place = place[step]
            found = 1
        return found + sum(map(follow, node.values()))

    assert follow(made) > 40


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_there_and_knows_the_commands(
    shell: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # by the shell that the command runs in, which a test's is not
    monkeypatch.setattr("shellingham.detect_shell", lambda *_: (shell, f"/bin/{shell}"))
    assert run(["--show-completion"]) == 0
    assert "headrace" in capsys.readouterr().out
    if shell == "bash":
        monkeypatch.setenv("_HEADRACE_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", "headrace ")
        monkeypatch.setenv("COMP_CWORD", "1")
        run([])
        assert set(COMMANDS) <= set(capsys.readouterr().out.split())


def findings(**sections: Any) -> dict[str, str]:
    found = asyncio.run(doctor.unsafe(load(overrides=sections)))
    return {one.found: f"{one.state} {one.remedy}" for one in found}


def test_a_block_that_nobody_acts_on_is_told() -> None:
    judging = {"uploads": ("tag", "safety")}
    ((said, remedy),) = findings(media=judging).items()
    assert said.startswith("safety judges uploads, and no agent `content`") and remedy.startswith(
        "warn add content"
    )
    assert findings(media=judging, worker={"agents": ("uploads", "content")}) == {"nothing unsafe": "ok "}
    assert findings(media=judging, worker={"agents": ("clicks", "items")}) == {"nothing unsafe": "ok "}


def test_what_the_doctor_calls_unsafe(tmp_path: Path) -> None:
    assert findings() == {"nothing unsafe": "ok "}
    secret = tmp_path / "password"
    secret.write_text("hunter2", encoding="utf-8")
    secret.chmod(0o644)
    found = findings(
        kafka={
            "bootstrap": "kafka-1:9092",
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_username": "me",
            "sasl_password_file": str(secret),
        },
        observe={"host": "0.0.0.0"},
        privacy={"block_s": 60},
        media={"roots": ["/"]},
    )
    for words in ("in clear", "everybody may read", "observe.host", "replication", "block_s", "any file"):
        assert any(words in line for line in found), (words, found)
    assert not any("hunter2" in line for line in found)
    secret.chmod(stat.S_IRUSR)
    assert not any("everybody" in line for line in findings(privacy={"key_file": str(secret)}))
    gone = findings(privacy={"key_file": str(tmp_path / "gone")})
    assert any("cannot be read" in line and state.startswith("fail") for line, state in gone.items())


def test_the_doctor_finds_damaged_weights_a_taken_port_and_no_broker(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import socket

    folder = tmp_path / "tiny-1"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}", encoding="utf-8")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        sets = {
            "media.cache": tmp_path,
            "observe.port": taken.getsockname()[1],
            "kafka.bootstrap": "127.0.0.1:1",
            "kafka.request_timeout_s": 2,
            "media.device": "cuda",
        }
        arguments = [f"--set={name}={value}" for name, value in sets.items()]
        assert run([*arguments, "doctor", "--json"]) == 1
    found = {one["check"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
    assert found["models"]["state"] == found["broker"]["state"] == "fail"
    assert found["port"]["state"] == "warn" and found["topics"]["state"] == "skip"
    assert found["versions"]["state"] == found["disk"]["state"] == "ok"
