"""People, places and organisations that a text names, with the characters at which it does.

Embedded is spaCy's small English pipeline; a user's folder may hold a token classifier in Hugging Face layout. What
either calls its labels becomes `person`, `place` or `organisation`; other kinds (dates, sums, ...) are left out, unless
the option `kinds` says what to call them. A text that the model does not read gets `unsupported_language`.

Places are counted in characters (code points) of the text as it was sent, behind a byte order mark if there is one.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.inference.mentions import Finder, Mention
from models.media.language import LANGUAGES, Language, detect
from models.media.text import decode_in_place
from models.tasks.texts import FOUND_TEXTS, accepts_text, known_options, languages_option, unsupported
from models.types import Finding, Json, LoadOptions, Outcome, Payload, Prepared, Span, Unit

PERSON, PLACE, ORGANISATION = "person", "place", "organisation"
KINDS: dict[str, str] = {
    **dict.fromkeys(("PER", "PERSON"), PERSON),
    **dict.fromkeys(("LOC", "LOCATION", "GPE", "FAC", "PLACE"), PLACE),
    **dict.fromkeys(("ORG", "ORGANIZATION", "ORGANISATION", "CORPORATION"), ORGANISATION),
}
"""A model's own word, in capitals -> what it is called here. Option `kinds` adds to it or replaces a row."""

_MAX_UNITS = 256
_LANGUAGE_CHARACTERS = 2000
_ENDS = '.!?:"”\n'  # behind one of these, or at the start, The may be an article
_AFTER_LATIN = "\u0250"  # the first letter beyond the Latin alphabets of European languages
_MOST_MENTIONS = 500  # of a text that is a list of names, so that a label stays well below a record's size


@dataclass(frozen=True, slots=True)
class _Read:
    """What `finish` needs of `prepare`."""

    language: Language
    text: str


class Entities:
    """The task; see `models.types.Task`. A unit is a piece of a text, its output a list of `Mention`."""

    name = "entities"
    after = FOUND_TEXTS
    max_units = _MAX_UNITS

    def __init__(
        self, finder: Finder, languages: frozenset[str] | None, kinds: Mapping[str, str] | None = None
    ) -> None:
        self.model = finder.model
        self.batch_cost = finder.batch_cost
        self._finder = finder
        self._languages = languages
        self._kinds = {**KINDS, **(kinds or {})}

    @classmethod
    def load(cls, options: LoadOptions) -> "Entities":
        """Options: `kinds` (a label of the model -> what to call it), `languages` (what the folder's model reads).

        Raises WeightsMismatch, ValueError.
        """
        known_options(cls.name, options, "kinds", "languages")
        kinds = _kinds(options.options.get("kinds", {}))
        if options.folder is not None:
            from models.inference.token_labels import TokenLabels

            languages = languages_option(cls.name, options)
            return cls(TokenLabels.load(options, options.folder), languages, kinds)
        from models.inference.spacy_entities import SpacyEntities

        finder = SpacyEntities.load()
        return cls(finder, finder.languages, kinds)

    @classmethod
    def accepts(cls, media_type: str) -> bool:
        """Plain text."""
        return accepts_text(media_type)

    def prepare(self, payload: Payload) -> Prepared:
        """No unit for what the model does not read. Raises BadInput: too_large, undecodable, empty."""
        text = decode_in_place(payload.data)
        reads = LANGUAGES if self._languages is None else self._languages
        language = _language(text[:_LANGUAGE_CHARACTERS], payload.language, reads)
        if not language.readable(self._languages):
            return Prepared((), _Read(language, ""))
        return Prepared(tuple(self._finder.pieces(text)), _Read(language, text))

    def forward(self, units: Sequence[Unit]) -> list[list[Mention]]:
        """What each piece names, in order."""
        return self._finder.find(units)

    def finish(self, prepared: Prepared, outputs: Sequence[list[Mention]]) -> Outcome:
        """One finding: names with their kinds, each once, in the order of the text; a span for every mention."""
        read: _Read = prepared.context
        if not outputs:
            return unsupported(self.name, read.language)
        spans = [span for mentions in outputs for one in mentions for span in self._span(one, read.text)]
        kept = spans[:_MOST_MENTIONS]
        names = dict.fromkeys(
            (" ".join(read.text[int(span.start) : int(span.end)].split()), str(span.value)) for span in kept
        )
        value: list[Json] = [{"name": name, "kind": kind} for name, kind in names]
        detail: dict[str, Json] = {"language": read.language.code, "mentions": len(spans)}
        return Outcome((Finding(self.name, value, spans=tuple(kept), detail=detail),))

    def examples(self) -> Sequence[Payload]:
        """A name alone; a full batch of sentences; a batch of the longest pieces."""
        longest = self._finder.longest * (4 * self.batch_cost // len(self._finder.longest))
        texts = ["Mary Smith lives in Leeds.", *["The Reuters office in Paris."] * 64, longest[:20_000]]
        return [Payload("text/plain", text.encode(), language="en") for text in texts]

    def _span(self, mention: Mention, text: str) -> list[Span]:
        """Of a kind that is asked for, without the blanks around it; none if nothing is left."""
        kind = self._kinds.get(mention.kind.upper())
        start, end = mention.start, mention.end
        while start < end and text[start].isspace():
            start += 1
        while end > start and text[end - 1].isspace():
            end -= 1
        return [Span(start, end, kind, mention.score)] if kind and start < end else []


def _language(start: str, declared: str | None, reads: Collection[str]) -> Language:
    """By the words without capitals, since names speak other languages than what is said of them. A line of names alone
    (a result, a dateline) is in the declared language, where one is."""
    plain = " ".join(word for word in start.split() if not word.lstrip("\"'“‘(«")[:1].isupper())
    if any(char.isalpha() for char in plain):
        return detect(plain, declared, reads)
    found = detect(start, declared, reads)
    said = (declared or "").partition("-")[0].lower()
    if said in LANGUAGES and found.letters and all(char < _AFTER_LATIN for char in start if char.isalpha()):
        return Language(said, found.share, letters=True)
    return found


def _kinds(given: Any) -> dict[str, str]:
    """Option `kinds`, its keys in capitals. Raises ValueError."""
    if not isinstance(given, Mapping) or not all(
        isinstance(kind, str) and kind.strip() and label.strip() for label, kind in given.items()
    ):
        raise ValueError(
            f"entities: kinds is {given!r}, expected a table of the model's labels and their names"
        )
    return {label.upper(): kind for label, kind in given.items()}
