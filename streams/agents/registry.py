"""Which agents exist. A row names a class; nothing is imported until the agent is asked for."""

from collections.abc import Sequence
from importlib import import_module
from typing import cast

from streams.agents.base import AgentClass
from streams.errors import UserMistake

AGENTS: dict[str, str] = {
    "clicks": "streams.agents.clicks:ClicksAgent",
    "items": "streams.agents.items:ItemsAgent",
    "content": "streams.agents.content:ContentAgent",
    "privacy": "streams.agents.privacy:PrivacyAgent",
    "audio": "streams.agents.media:AudioAgent",
    "uploads": "streams.agents.media:UploadsAgent",
    "audio-retry": "streams.agents.retry:AudioRetryAgent",
    "uploads-retry": "streams.agents.retry:UploadsRetryAgent",
}


def agent_class(name: str) -> AgentClass:
    """The class of a registered agent. Raises UserMistake for an unknown name."""
    if name not in AGENTS:
        raise UserMistake(f"worker.agents: there is no agent {name!r}; there are {', '.join(AGENTS)}")
    module, _, attribute = AGENTS[name].partition(":")
    return cast(AgentClass, getattr(import_module(module), attribute))


def with_companions(names: Sequence[str]) -> list[AgentClass]:
    """The classes of the agents named and of those that run wherever they do, each once."""
    found: dict[str, AgentClass] = {}
    for name in names:
        found[name] = agent_class(name)
        for companion in found[name].companions:
            found.setdefault(companion, agent_class(companion))
    return list(found.values())
