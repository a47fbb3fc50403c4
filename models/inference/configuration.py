"""JSON files of a checkpoint folder, which may come from a stranger: bounded, and objects only."""

import json
from pathlib import Path
from typing import Any

from models.errors import WeightsMismatch

_LIMIT_BYTES = 16 << 20


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises WeightsMismatch if it is too large, not JSON or not an object."""
    if path.stat().st_size > _LIMIT_BYTES:
        raise WeightsMismatch(f"{path} is over {_LIMIT_BYTES >> 20} MB: it is no configuration")
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise WeightsMismatch(f"{path} is not JSON ({error}); fetch the checkpoint anew") from error
    if not isinstance(found, dict):
        raise WeightsMismatch(f"{path} is not a JSON object; fetch the checkpoint anew")
    return found
