"""README and docs/schemas say what the code does: examples decode, topics, commands and settings are all there."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from streams.cli.commands import COMMANDS
from streams.events import EVENT_TYPES, json_schema
from streams.query.openapi import document
from streams.settings import Settings
from streams.topology.topics import TOPOLOGY

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"<!-- (media\.\S+) -->\n```json\n(.*?)\n```", README, re.DOTALL)


@pytest.mark.parametrize(("name", "text"), EXAMPLES)
def test_examples_of_events_decode_and_have_no_unknown_field(name: str, text: str) -> None:
    event = msgspec.json.decode(text, type=EVENT_TYPES[name])
    written = msgspec.to_builtins(event)

    def known(given: object, decoded: object) -> None:
        if isinstance(given, dict) and isinstance(decoded, dict):
            assert set(given) <= set(decoded)
            for key in given:
                known(given[key], decoded[key])

    known(json.loads(text), written)


def test_every_event_has_an_example() -> None:
    assert {name for name, _ in EXAMPLES} == set(EVENT_TYPES)


def test_every_topic_stands_in_the_table_with_its_key_and_event() -> None:
    rows = [line for line in README.splitlines() if line.startswith("| `")]
    for topic in TOPOLOGY:
        row = next(row for row in rows if f"`{topic.name}`" in row.split("|")[1])
        assert topic.key in row.split("|")[2]
        if topic.event:
            assert topic.event in row
        kept = "compacted" if topic.compacted else f"{(topic.retention_ms or 604_800_000) // 86_400_000} day"
        assert kept in row


def test_every_command_and_every_section_of_the_settings_is_named() -> None:
    assert all(f"`headrace {command}" in README for command in COMMANDS)
    sections = {
        name for name, field in Settings.model_fields.items() if name not in ("log_level", "log_format")
    }
    assert all(f"| `{section}` |" in README for section in sections)


def test_commands_in_the_readme_exist() -> None:
    used = re.findall(
        r"headrace(?: --set \S+)? ([a-z]+)", "\n".join(re.findall(r"`[^`]+`|```sh.*?```", README, re.DOTALL))
    )
    assert set(used) <= set(COMMANDS)


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_schemas_have_not_drifted(name: str) -> None:
    """After a meant change: `headrace config schemas --out docs/schemas`, and a new version if it is not
    compatible."""
    committed = json.loads((ROOT / "docs" / "schemas" / f"{name}.json").read_text(encoding="utf-8"))

    assert committed == json_schema(name)


def test_no_schema_is_left_over() -> None:
    assert {path.stem for path in (ROOT / "docs" / "schemas").glob("*.json")} == set(EVENT_TYPES)


def test_the_openapi_document_has_not_drifted() -> None:
    """After a meant change: `headrace config openapi > docs/openapi.json`."""
    committed = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    assert committed == document(committed["info"]["version"])
