"""The settings tree: defaults < TOML file < environment (`HEADRACE_KAFKA__BOOTSTRAP=…`) < command line.

The only reader of the environment. Built once, frozen, passed down. An unknown name or a bad value stops the
start with every mistake listed at once.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    ValidationError,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from streams.errors import UserMistake
from streams.sections.base import in_words
from streams.sections.experiments import Experiment
from streams.sections.kafka import Kafka, Reader, Topics
from streams.sections.media import Media
from streams.sections.taste import Quality, Taste
from streams.sections.worker import Demo, Observe, Privacy, State, Worker

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_FILE = Path("headrace.toml")
FILE_VARIABLE = "HEADRACE_CONFIG"
KAFKA_LIB_VARIABLE = "HEADRACE_KAFKA_LIB"


class Settings(BaseSettings):
    """Everything a process is told."""

    model_config = SettingsConfigDict(
        env_prefix="HEADRACE_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    kafka: Kafka = Kafka()
    topics: Topics = Topics()
    reader: Reader = Reader()
    worker: Worker = Worker()
    observe: Observe = Observe()
    taste: Taste = Taste()
    quality: Quality = Quality()
    experiments: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")], Experiment] = Field(
        default_factory=dict, max_length=16, description="by name; a reader is in the first that draws them"
    )
    state: State = State()
    privacy: Privacy = Privacy()
    media: Media = Media()
    demo: Demo = Demo()
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least that is logged"
    )
    log_format: Literal["text", "json"] = Field(
        "text",
        description="json: an object a line, with topic, partition, offset and trace_id where a record is meant",
    )


class _Environment(EnvSettingsSource):
    """Leaves what is not JSON as it is: validation then names it, together with all other mistakes."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


def load(file: Path | None = None, overrides: dict[str, Any] | None = None) -> Settings:
    """Build the settings once. `overrides` come from the command line and win.

    `file` None means `$HEADRACE_CONFIG`, else `headrace.toml` in the working folder where there is one.
    Raises UserMistake that lists every wrong name and value.
    """
    path = file or _named_file() or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    if path is not None and not path.is_file():
        raise UserMistake(f"settings file {path} does not exist")

    class FromSources(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (init_settings, _Environment(settings_cls), TomlConfigSettingsSource(settings_cls, path))

    mistakes = _unknown_variables()
    try:
        settings = FromSources(**(overrides or {}))
    except ValidationError as error:
        mistakes += [in_words(e["loc"], e["msg"], e.get("input")) for e in error.errors()]
    except (ValueError, OSError) as error:  # a file that is not TOML, or not for us to read
        mistakes.append(f"{path}: {error}")
    if mistakes:
        raise UserMistake("wrong settings:\n" + "\n".join(f"  - {mistake}" for mistake in mistakes))
    return Settings.model_construct(**dict(settings))


def origins(file: Path | None = None, overrides: dict[str, Any] | None = None) -> dict[str, str]:
    """Setting (`kafka.bootstrap`) -> who gave it, strongest first in its name; what is missing is a default.

    For settings that `load` accepted.
    """
    path = file or _named_file() or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    found: dict[str, str] = {}
    if path is not None:
        with path.open("rb") as opened:
            found |= dict.fromkeys(_leaves(tomllib.load(opened)), f"file {path}")
    for name in sorted(os.environ):
        if name.startswith("HEADRACE_") and name not in (FILE_VARIABLE, KAFKA_LIB_VARIABLE):
            found[name.removeprefix("HEADRACE_").lower().replace("__", ".")] = f"environment {name}"
    return found | dict.fromkeys(_leaves(overrides or {}), "command line")


def _leaves(tree: dict[str, Any], prefix: str = "") -> list[str]:
    names: list[str] = []
    for name, value in tree.items():
        names += _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]
    return names


def _named_file() -> Path | None:
    named = os.environ.get(FILE_VARIABLE)
    return Path(named) if named else None


def kafka_lib() -> Path | None:
    """The folder of Kafka's jars named by HEADRACE_KAFKA_LIB: a real broker for tests and benchmarks."""
    named = os.environ.get(KAFKA_LIB_VARIABLE)
    return Path(named).resolve() if named else None


def plain_environment() -> dict[str, str]:
    """This process's environment without Headrace's own variables: for workers that are told all by their command."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}


def _unknown_variables() -> list[str]:
    """pydantic-settings ignores unknown top-level variables; a misspelt setting must not be ignored."""
    prefix = "HEADRACE_"
    known = {name.upper() for name in Settings.model_fields}
    found = []
    for name in sorted(os.environ):
        if not name.upper().startswith(prefix) or name in (FILE_VARIABLE, KAFKA_LIB_VARIABLE):
            continue
        if name[len(prefix) :].split("__")[0].upper() not in known:
            found.append(f"environment variable {name}: no such setting")
    return found
