"""Agents bring their companions, each once; an unknown name is a mistake to mend."""

import pytest

from streams.agents.registry import AGENTS, agent_class, with_companions
from streams.errors import UserMistake
from streams.topology.topics import TOPOLOGY


def names(*wanted: str) -> list[str]:
    return [agent.name for agent in with_companions(wanted)]


def test_media_agents_bring_those_that_try_again() -> None:
    assert names("clicks", "audio") == ["clicks", "audio", "audio-retry"]
    assert names("audio-retry", "audio", "audio") == ["audio-retry", "audio"]
    assert names("uploads-retry") == ["uploads-retry"]


def test_every_agent_is_called_as_it_is_registered_and_reads_a_topic_there_is() -> None:
    topics = {topic.name for topic in TOPOLOGY}
    for name in AGENTS:
        assert agent_class(name).name == name and agent_class(name).topic in topics


def test_an_unknown_agent_is_named() -> None:
    with pytest.raises(UserMistake, match="no agent 'adio'"):
        with_companions(["adio"])
