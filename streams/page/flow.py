"""The flow as a graph: topics and agents of this worker, from the declared topology and the table of rights."""

from collections.abc import Mapping
from typing import Any

from streams.topology.manifests import rights_of
from streams.topology.topics import TOPOLOGY

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
    """Breadth first from the inputs over what flows; outputs stand to the right of all who write them, those among them
    who try again what others could not. Tables that lead back move nobody."""
    flows = [(source, target) for source, target, kind in edges if kind != "table"]
    inputs = [topic for topic in read if _role(topic) == "input"]
    reached = dict.fromkeys(inputs or read, 0)
    _reach(reached, [edge for edge in flows if _role(edge[1]) != "output"])
    for output in dict.fromkeys(target for _, target in flows if _role(target) == "output"):
        writers = [reached[source] for source, target in flows if target == output and source in reached]
        if writers:
            reached.setdefault(
                output, max(writers) + 1
            )  # one that is read first (`labels` alone) stays where it is
    _reach(reached, flows)
    for source, target, _ in edges:
        reached.setdefault(source, 0)
        reached.setdefault(target, reached[source] + 1)
    return reached


def _reach(reached: dict[str, int], flows: list[tuple[str, str]]) -> None:
    """Give each node that follows one with a column the next one, breadth first."""
    todo = list(reached)
    for name in todo:
        for source, target in flows:
            if source == name and target not in reached:
                reached[target] = reached[name] + 1
                todo.append(target)


def _role(node: str) -> str:
    return _ROLE.get(node.partition(":")[2], "") if node.startswith("topic:") else "agent"
