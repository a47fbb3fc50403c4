"""The declared topology as an AsyncAPI 3.0 document: channels, keys, retention, the events' JSON Schemas. Pure."""

import importlib.metadata
from typing import Any

from streams.events import EVENT_TYPES, json_schema
from streams.topology.topics import TOPOLOGY, Topic

_HEADERS = {
    "type": "object",
    "properties": {
        "ce_id": {"type": "string"},
        "ce_type": {"type": "string"},
        "ce_source": {"type": "string"},
        "ce_specversion": {"type": "string", "const": "1.0"},
        "ce_time": {"type": "string", "format": "date-time"},
        "content-type": {"type": "string"},
        "traceparent": {"type": "string", "description": "W3C trace context, carried on to the outputs"},
        "tracestate": {"type": "string"},
    },
}
_ACTIONS = {"input": "receive", "retry": "receive"}


def document(prefix: str = "") -> dict[str, Any]:
    """All topics; `prefix` stands before their names on the cluster."""
    channels, operations = {}, {}
    for topic in TOPOLOGY:
        channels[topic.name] = _channel(topic, prefix)
        if topic.event is None:
            continue
        action = _ACTIONS.get(topic.role, "send")
        operations[f"{action} {topic.name}"] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{_pointer(topic.name)}"},
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Headrace",
            "version": importlib.metadata.version("headrace"),
            "description": "Clicks to recommendations, audio and uploads to labels, on Kafka.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": {name: _message(name) for name in EVENT_TYPES},
            "schemas": {name: _schema(name) for name in EVENT_TYPES},
        },
    }


def _channel(topic: Topic, prefix: str) -> dict[str, Any]:
    channel: dict[str, Any] = {
        "address": f"{prefix}{topic.name}",
        "description": f"{topic.role.replace('_', ' ')}; key: {topic.key}",
        "messages": {},
        "bindings": {"kafka": {"topicConfiguration": _configuration(topic)}},
    }
    if topic.event is not None:
        channel["messages"] = {topic.event: {"$ref": f"#/components/messages/{topic.event}"}}
    return channel


def _configuration(topic: Topic) -> dict[str, Any]:
    config = topic.config()
    found: dict[str, Any] = {"cleanup.policy": config["cleanup.policy"].split(",")}
    for name in ("retention.ms", "delete.retention.ms", "max.message.bytes"):
        if name in config:
            found[name] = int(config[name])
    return found


def _message(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "contentType": "application/json",
        "headers": _HEADERS,
        "payload": {"$ref": f"#/components/schemas/{name}"},
    }


def _schema(name: str) -> dict[str, Any]:
    """With its definitions inside: their references are moved to where the document has them."""
    moved: dict[str, Any] = _moved(json_schema(name), f"#/components/schemas/{name}/$defs/")
    return moved


def _moved(node: Any, to: str) -> Any:
    if isinstance(node, dict):
        return {
            key: value.replace("#/$defs/", to)
            if key == "$ref" and isinstance(value, str)
            else _moved(value, to)
            for key, value in node.items()
        }
    return [_moved(one, to) for one in node] if isinstance(node, list) else node


def _pointer(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
