"""Which inference tasks exist. A row names a class; nothing is imported until a task is asked for."""

from importlib import import_module
from typing import cast

from models.types import Task

TASKS: dict[str, str] = {
    "transcribe": "models.tasks.transcribe:Transcribe",
    "tag": "models.tasks.tag:Tag",
    "sentiment": "models.tasks.sentiment:Sentiment",
    "topics": "models.tasks.topics:Topics",
    "safety": "models.tasks.safety:Safety",
    "entities": "models.tasks.entities:Entities",
    "ocr": "models.tasks.ocr:Ocr",
    "embed": "models.tasks.embed:Embed",
}


def task_class(name: str) -> type[Task]:
    """The class of a registered task. Raises KeyError for an unknown name."""
    module, _, attribute = TASKS[name].partition(":")
    return cast("type[Task]", getattr(import_module(module), attribute))
