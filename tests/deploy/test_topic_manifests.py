"""`headrace topics manifests`: every topic as declared, users with what their agents need and no more, and the file in
deploy/ is what the command prints."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from processes import run_command
from streams.agents.registry import AGENTS, agent_class
from streams.cli.run import run
from streams.settings import load
from streams.topology.manifests import RIGHTS, USERS, strimzi
from streams.topology.topics import TOPOLOGY, dead_letter

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "deploy/kustomize/components/strimzi/kafka.yaml"
SETS = ("topics.partitions=24", "topics.replication=3", "observe.heartbeat_s=10")
ARGUMENTS = (*(part for one in SETS for part in ("--set", one)), "topics", "manifests")
"""How the file in deploy/ is made; deploy/README.md says the same."""


def documents(text: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(text))


def grants(manifest: dict[str, Any]) -> dict[tuple[str, str], set[str]]:
    return {
        (acl["resource"]["type"], acl["resource"]["name"]): set(acl["operations"])
        for acl in manifest["spec"]["authorization"]["acls"]
    }


def test_the_file_in_deploy_is_what_the_command_prints(tmp_path: Path) -> None:
    printed = run_command([*ARGUMENTS, "--format", "strimzi"], tmp_path)

    assert printed.returncode == 0, printed.stderr
    assert printed.stdout == COMMITTED.read_text(encoding="utf-8")
    assert f"headrace {' '.join(ARGUMENTS)}" in (ROOT / "deploy/README.md").read_text(encoding="utf-8")


def test_every_topic_is_there_as_declared() -> None:
    settings = load(overrides={"topics": {"partitions": 12, "replication": 3}})
    topics = [one for one in documents(strimzi(settings, "main", {})) if one["kind"] == "KafkaTopic"]

    assert [one["spec"]["topicName"] for one in topics] == [topic.name for topic in TOPOLOGY]
    for one, topic in zip(topics, TOPOLOGY, strict=True):
        assert one["metadata"]["labels"]["strimzi.io/cluster"] == "main"
        assert one["spec"]["partitions"] == 12 and one["spec"]["replicas"] == 3
        assert {key: str(value) for key, value in one["spec"]["config"].items()} == topic.config()


def test_a_prefix_is_put_before_topics_and_their_rights_and_resources_have_names_that_kubernetes_takes() -> (
    None
):
    settings = load(overrides={"kafka": {"topic_prefix": "My_Site.", "group": "site"}})
    found = documents(strimzi(settings, "kafka", USERS))

    assert found[0]["metadata"]["name"] == "my-site.clicks"
    assert found[0]["spec"]["topicName"] == "My_Site.clicks"
    assert ("topic", "My_Site.clicks") in grants(found[-1])
    assert ("group", "site.audio") in grants(found[-1])


def test_the_table_of_rights_is_about_the_agents_that_exist() -> None:
    assert set(RIGHTS) == set(AGENTS)
    for name, rights in RIGHTS.items():
        agent = agent_class(name)
        assert agent.topic in rights.reads
        assert rights.companions == tuple(agent.companions)


def test_workers_of_clicks_may_not_touch_media_nor_change_inputs() -> None:
    clicks, media = documents(strimzi(load(), "kafka", USERS))[-2:]

    assert grants(clicks)["topic", "clicks"] == {
        "Describe",
        "Read",
        "Write",
    }  # orders of readers go in between
    assert grants(clicks)["topic", "uploads"] == {"Describe"}
    assert grants(clicks)["topic", "audio"] == {"Describe"}
    assert grants(documents(strimzi(load(overrides={"observe": {"heartbeat_s": 10}}), "kafka", USERS))[-1])[
        "topic", "uploads"
    ] == {"Describe", "Read", "Write"}
    assert grants(media)["topic", "uploads"] == {"Describe", "Read"}
    assert grants(clicks)["topic", dead_letter("clicks")] == {
        *("Describe", "DescribeConfigs", "Read", "Write", "Delete")  # of readers who are forgotten
    }
    assert grants(clicks)["topic", "labels"] == {"Describe", "DescribeConfigs"}
    assert grants(media)["topic", "labels"] == {"Describe", "DescribeConfigs", "Read", "Write"}
    assert grants(media)["topic", "taste-changelog"] == {"Describe", "DescribeConfigs"}
    assert ("group", "headrace.audio-retry") in grants(media)
    assert not any(kind == "transactionalId" for kind, _ in grants(clicks))


def test_exactly_once_adds_the_right_to_transactional_ids_of_the_group() -> None:
    settings = load(overrides={"worker": {"delivery": "exactly_once"}})
    for user in documents(strimzi(settings, "kafka", USERS))[-2:]:
        assert grants(user)["transactionalId", "headrace"] == {"Describe", "Write"}
        acl = user["spec"]["authorization"]["acls"][-1]
        assert acl["resource"]["patternType"] == "prefix"


@pytest.mark.parametrize("user", ["=clicks", "someone", "someone=", "someone=nobody"])
def test_a_wrong_user_is_one_clear_line(user: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["topics", "manifests", "--user", user]) == 2
    said = capsys.readouterr().err
    assert len(said.strip().splitlines()) == 1 and ("AGENT" in said or "nobody" in said)
