"""The command line: exit codes, one clear line for a mistake, examples in every help, and a fast start."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from streams.cli.commands import COMMANDS
from streams.cli.context import Given
from streams.cli.run import LazyGroup, globals_first, run
from streams.demo.server import free_ports
from streams.errors import UserMistake


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings file of the person who runs the tests, and no colours in what is compared."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")


def commands() -> Iterator[tuple[str, ...]]:
    group = LazyGroup()
    for name in COMMANDS:
        command: Any = group.get_command(None, name)
        subs = getattr(command, "commands", None)
        yield from ((name, sub) for sub in subs) if subs else [(name,)]


@pytest.mark.parametrize("command", list(commands()), ids=" ".join)
def test_help_of_every_command_has_an_example(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"headrace {' '.join(command)}" in shown.split("Example:")[1].replace(
        "--set topics.partitions=24 ", ""
    )


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from streams.cli.run import run; run(['--help']);"
        "heavy = {'torch', 'faust', 'numpy', 'aiokafka', 'pydantic'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=project())
    assert done.returncode == 0, done.stderr


def project() -> Path:
    return Path(__file__).parents[3]


def headrace(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "streams", *arguments],
        capture_output=True,
        text=True,
        cwd=project(),
        timeout=60,
    )


def test_no_broker_is_exit_code_3_and_one_line_that_says_what_to_do() -> None:
    done = headrace("--set", f"kafka.bootstrap=127.0.0.1:{free_ports(1)[0]}", "topics", "plan")

    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "kafka.bootstrap" in done.stderr


def test_wrong_settings_are_exit_code_2_and_all_listed() -> None:
    done = headrace("worker", "--set", "kafka.bootstap=x", "--set", "taste.dim=13")

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "kafka.bootstap: no such setting" in done.stderr
    assert "taste.dim" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nonsense"], 2, "nonsense"),
        (["tail"], 2, "topic"),
        (["--set", "x", "config", "show"], 2, "section.name=value"),
        (["--config", "missing.toml", "config", "show"], 2, "missing.toml"),
        (["feed", "missing.jsonl", "--format", "jsonl"], 3, "missing.jsonl"),
        (["feed", "missing.jsonl", "--format", "xml"], 2, "movielens"),
        (["feed", "missing.jsonl", "--format", "jsonl", "--speed", "-1"], 2, "--speed"),
        (["label", "smell", "x.txt"], 2, "sentiment"),
        (["label", "sentiment", "missing.txt"], 3, "missing.txt"),
        (["send", "clicks", '{"user": "u"}'], 2, "item"),
        (["send", "nowhere", "{}"], 2, "--raw"),
        (["train", "sentiment", "--data", "no.tsv", "--dev", "no.tsv", "--out", "o"], 3, "no.tsv"),
    ],
)
def test_mistakes(arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == code
    assert words in capsys.readouterr().err.replace("TOPIC", "topic")


def test_global_options_may_stand_anywhere_but_not_behind_two_dashes() -> None:
    line = ["tail", "--set", "a.b=1", "x", "--config=f", "--", "--set", "kept"]

    assert globals_first(line) == ["--set", "a.b=1", "--config=f", "tail", "x", "--", "--set", "kept"]
    assert globals_first(["worker", "--set"]) == ["--set", "worker"]


def test_set_builds_a_tree_and_the_last_one_wins() -> None:
    given = Given(None, ("kafka.group=a", "kafka.group=b", "worker.agents=clicks,items", 'x.y={"z": [1]}'))

    assert given.overrides() == {
        "kafka": {"group": "b"},
        "worker": {"agents": "clicks,items"},
        "x": {"y": {"z": [1]}},
    }
    with pytest.raises(UserMistake, match="given a value already"):
        Given(None, ("kafka=1", "kafka.group=b")).overrides()


def test_config_show_says_where_values_come_from_and_hides_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "headrace.toml").write_text('[kafka]\ngroup = "file"\nclient_id = "file"\n')
    monkeypatch.setenv("HEADRACE_KAFKA__CLIENT_ID", "environment")
    monkeypatch.setenv("HEADRACE_KAFKA__SASL_PASSWORD", "hunter2")

    assert run(["config", "show", "--json", "--set", "worker.agents=clicks,items"]) == 0
    out = capsys.readouterr().out
    shown = json.loads(out)

    assert shown["kafka.group"] == {"value": "file", "from": "file headrace.toml"}
    assert shown["kafka.client_id"]["value"] == "environment"
    assert shown["kafka.client_id"]["from"].startswith("environment")
    assert shown["worker.agents"] == {"value": ["clicks", "items"], "from": "command line"}
    assert shown["kafka.bootstrap"]["from"] == "default"
    assert "hunter2" not in out


def test_a_failure_of_ours_keeps_its_stack_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Given) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Given, "settings", broken)
    with pytest.raises(ZeroDivisionError):
        run(["config", "show"])


def test_every_module_of_the_table_has_an_app() -> None:
    import importlib

    assert all(isinstance(importlib.import_module(module).app, typer.Typer) for module in COMMANDS.values())
