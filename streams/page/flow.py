"""The flow as a graph: topics and agents of this worker, from the declared topology and the table of rights."""

from collections.abc import Mapping
from typing import Any

from streams.manifests import rights_of
from streams.topics import TOPOLOGY

_ROLE = {topic.name: topic.role for topic in TOPOLOGY}
_HIDDEN = ("taste-changelog", "dlq-progress")  # agents' own memory: it stands with the agent


def flow(served: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
    """Nodes and edges. `served`: agent -> the topic it reads. Dead letters stand with their agent.

    A node's column is its distance from the inputs; an edge that leads back, as from the item table to the lists, says
    so.
    """
    edges = [(f"topic:{topic}", f"agent:{agent}", "read") for agent, topic in served.items()]
    edges += [
        (f"agent:{agent}", f"topic:{topic}", "write")
        for agent in served
        for topic in rights_of(agent).writes
        if _ROLE[topic] != "dead_letter" and topic not in _HIDDEN
    ]
    edges += [
        (f"topic:{topic}", f"agent:{agent}", "table")
        for agent in served
        for topic in rights_of(agent).reads
        if topic not in (*_HIDDEN, served[agent], *rights_of(agent).writes)
    ]
    columns = _columns([f"topic:{topic}" for topic in served.values()], edges)
    nodes = []
    for node, column in columns.items():
        kind, _, name = node.partition(":")
        role = "agent" if kind == "agent" else _ROLE.get(name, "internal")
        nodes.append({"id": node, "name": name, "kind": role, "column": column})
    return {
        "nodes": nodes,
        "edges": [
            {"from": source, "to": target, "kind": kind, "back": columns[target] <= columns[source]}
            for source, target, kind in edges
        ],
    }


def _columns(read: list[str], edges: list[tuple[str, str, str]]) -> dict[str, int]:
    """Breadth first from the inputs over what flows; tables that lead back move nobody."""
    inputs = [topic for topic in read if _ROLE.get(topic.partition(":")[2]) == "input"]
    reached = dict.fromkeys(inputs or read, 0)
    todo = list(reached)
    for name in todo:
        for source, target, kind in edges:
            if source == name and kind != "table" and target not in reached:
                reached[target] = reached[name] + 1
                todo.append(target)
    for source, target, _ in edges:
        reached.setdefault(source, 0)
        reached.setdefault(target, reached[source] + 1)
    return reached
