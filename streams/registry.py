"""Which agents exist. A row names a class; nothing is imported until the agent is asked for."""

from importlib import import_module
from typing import cast

from streams.agents.base import AgentClass
from streams.errors import UserMistake

AGENTS: dict[str, str] = {
    "clicks": "streams.agents.clicks:ClicksAgent",
    "items": "streams.agents.items:ItemsAgent",
    "audio": "streams.agents.media:AudioAgent",
    "uploads": "streams.agents.media:UploadsAgent",
}


def agent_class(name: str) -> AgentClass:
    """The class of a registered agent. Raises UserMistake for an unknown name."""
    if name not in AGENTS:
        raise UserMistake(f"worker.agents: there is no agent {name!r}; there are {', '.join(AGENTS)}")
    module, _, attribute = AGENTS[name].partition(":")
    return cast(AgentClass, getattr(import_module(module), attribute))
