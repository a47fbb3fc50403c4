"""The two CPU steps of a task, so that whatever a decoder raises is the error of one input and no more.

A decoder is a large body of other people's code fed with hostile bytes; it raises things that nobody listed.
Knows no torch, thread or queue.
"""

import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.errors import BadInput, ModelError, OutOfMemory
from models.types import Outcome, Payload, Prepared, Task


def prepare(task: Task, payload: Payload) -> Prepared:
    """`task.prepare`. Raises ModelError alone: BadInput("poison") in the place of anything unexpected."""
    try:
        return task.prepare(payload)
    except ModelError:
        raise
    except MemoryError:
        raise OutOfMemory(f"no memory to prepare {len(payload.data)} bytes for {task.name}") from None
    except Exception as error:
        raise BadInput("poison", f"{task.name} could not prepare it: {kind_and_place(error)}") from error


def finish(task: Task, prepared: Prepared, outputs: Sequence[Any | ModelError]) -> Outcome:
    """`task.finish`. Raises the first error among the outputs, and ModelError alone, as `prepare`."""
    for output in outputs:
        if isinstance(output, ModelError):
            try:
                raise output
            finally:
                del output, outputs  # its traceback leads to this frame: it must not lead back
    try:
        return task.finish(prepared, outputs)
    except ModelError:
        raise
    except MemoryError:
        raise OutOfMemory(f"no memory to finish {len(outputs)} units for {task.name}") from None
    except Exception as error:
        raise BadInput("poison", f"{task.name} could not finish it: {kind_and_place(error)}") from error


def kind_and_place(error: BaseException) -> str:
    """Class, file and line of an error. Not its text, which may quote the payload."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
