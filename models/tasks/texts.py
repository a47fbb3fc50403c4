"""What tasks on texts share: reading a payload, and refusing a language that the model does not read."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from models.media.language import LANGUAGES, Language, detect
from models.media.text import decode_text
from models.types import Finding, Json, LoadOptions, Outcome, Payload

UNSUPPORTED = "unsupported_language"
"""The value of a label, without a score, where no model of the task reads the text."""

# Tasks whose findings hold a text, and in which field: what judges texts judges these too, where both run on a topic.
FOUND_TEXTS = {"ocr": "value", "transcribe": "value"}


@dataclass(frozen=True, slots=True)
class Text:
    """A payload's text, normalised, and its language."""

    text: str
    language: Language


def accepts_text(media_type: str) -> bool:
    """Plain text, whatever its parameters; the encoding is UTF-8 in any case."""
    return media_type.partition(";")[0].strip().lower() == "text/plain"


def read_text(payload: Payload, languages: Collection[str] | None) -> Text:
    """Text and language for a task that reads `languages` (None: all).

    Raises BadInput: too_large, undecodable, empty.
    """
    text = decode_text(payload.data)
    return Text(text, detect(text, payload.language, LANGUAGES if languages is None else languages))


def unsupported(task: str, language: Language) -> Outcome:
    """The answer to a text that the task cannot read."""
    detail: dict[str, Json] = {"language": language.code, "language_share": round(language.share, 3)}
    return Outcome((Finding(task, UNSUPPORTED, detail=detail),))


def known_options(task: str, options: LoadOptions, *names: str) -> None:
    """Raises ValueError for an option that the task does not have: misspelt, it would say nothing."""
    if unknown := sorted(options.options.keys() - set(names)):
        raise ValueError(f"{task}: {unknown[0]} is no option of it; it has {', '.join(names) or 'none'}")


def languages_option(task: str, options: LoadOptions) -> frozenset[str] | None:
    """Option `languages` of a task, what a user's checkpoint reads; None (all) if not given. Raises ValueError."""
    given: Any = options.options.get("languages")
    if given is None:
        return None
    unknown = [code for code in given if code not in LANGUAGES] if isinstance(given, list) else [given]
    if unknown or not given:
        raise ValueError(f"{task}: languages is {given!r}, expected a list of {', '.join(LANGUAGES)}")
    return frozenset(given)
