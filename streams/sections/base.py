"""What every table of the settings is, and types of their values."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]
UserPath = Annotated[Path, AfterValidator(Path.expanduser)]


def by_comma(given: Any) -> Any:
    """`clicks,audio` in the environment or on the command line, where a file has a list."""
    return [part.strip() for part in given.split(",")] if isinstance(given, str) else given


class Section(BaseModel):
    """One table of the file."""

    # validate_default: `~` in a default path becomes the home folder too
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def in_words(loc: tuple[int | str, ...], message: str, given: Any) -> str:
    """One mistake as pydantic names it, in a line for people."""
    where = ".".join(str(part) for part in loc)
    if message.startswith("Extra inputs"):
        return f"{where}: no such setting"
    # Of a whole section, or of anything but a plain value, nothing is repeated: it may hold a secret.
    plain = isinstance(given, (str, int, float)) and (len(loc) > 1 or where in ("log_level", "log_format"))
    shown = f" (given: {given!r})" if plain and "password" not in where else ""
    return f"{where}: {message.removeprefix('Value error, ')}{shown}"
