"""Which language a text is in, so that no model judges what it cannot read. Lingua (Apache-2.0), no network.

Lingua's quick models (trigrams, 3 MB, 3,000 texts/s) take 1 % of film reviews in English for another language, mostly
short ones; a look at English function words leaves 0.2 %. Its full models err as seldom without that look, but take
0.5 GB and seconds of one core at the first text, in which no other Python thread runs. A word or two in Latin letters
may belong to many languages: then `code` is None, and what the sender declared counts.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import Any

from models.errors import WeightsMismatch

_NAMED = "ar bg bn cs da de el en es fa fi fr he hi hu id it ja ko nb nl pl pt ro ru sv th tr uk ur vi zh"
LANGUAGES = tuple(_NAMED.split(" "))
"""ISO 639-1 codes told apart; what is in another language is taken for the nearest of these, or for none."""

_READ_CHARACTERS = 1000
# Another language than the caller reads must be likely, and all that the caller reads unlikely.
_LEAST_SHARE, _MOST_SHARE_READ = 0.5, 0.02
_EAST_ASIAN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_EAST_ASIAN_LETTERS = 3  # such a character is a syllable or a word
_WORD = re.compile(r"[^\W\d_]+|'\w+")
_ONLY = (
    "the and of is it's this that with were are but have had you they not for i'm our he she its an what when there "
    "just very about more most yes 's 're 've 'll been movie good great bad"
)
_SHARED = "it was me a no my we your her his their if who then than so too all to on as be being has film"
_ENGLISH_ONLY = frozenset(_ONLY.split(" "))
_ENGLISH = _ENGLISH_ONLY | frozenset(_SHARED.split(" "))
_LEAST_ENGLISH_WORDS = 0.15  # of all words, one of them a word of English alone; or else two fifths, and two


@dataclass(frozen=True, slots=True)
class Language:
    """`code` is ISO 639-1, None if the text does not say; `share` 0..1 of belief in it; `letters`: it has any."""

    code: str | None
    share: float
    letters: bool

    def readable(self, languages: Collection[str] | None) -> bool:
        """Whether a model of these languages (None: all) reads it: letters, of no language known to be another."""
        return self.letters and (languages is None or self.code is None or self.code in languages)


def detect(text: str, declared: str | None = None, reads: Collection[str] = ("en",)) -> Language:
    """The language of the first 1,000 characters; thread-safe.

    `declared` (such as "en-GB") decides where the text does not; `reads`: languages that the caller reads, which
    others must be told from with care. Raises WeightsMismatch if lingua is not installed.
    """
    text = text[:_READ_CHARACTERS]
    letters = [char for char in text if char.isalpha()]
    if not letters:
        return Language(None, 0.0, letters=False)
    east_asian = _EAST_ASIAN.findall(text)
    if east_asian and _EAST_ASIAN_LETTERS * len(east_asian) >= len(letters) - len(east_asian):
        text = "".join(east_asian)
    shares = {
        found.language.iso_code_639_1.name.lower(): float(found.value)
        for found in _detector().compute_language_confidence_values(text)
    }
    code = max(shares, key=lambda name: shares[name])
    share = shares[code]
    if code != "en" and "en" in reads and _looks_english(text):
        code, share = "en", shares["en"]
    read = sum(shares[name] for name in reads if name in shares)
    if code in reads or (share >= _LEAST_SHARE and read <= _MOST_SHARE_READ):
        return Language(code, share, letters=True)
    said = (declared or "").partition("-")[0].lower()
    return Language(said if said in LANGUAGES else None, share, letters=True)


def _looks_english(text: str) -> bool:
    words = _WORD.findall(text.lower())
    found = sum(word in _ENGLISH for word in words)
    if any(word in _ENGLISH_ONLY for word in words):
        return found >= _LEAST_ENGLISH_WORDS * len(words)
    return found >= max(2, 0.4 * len(words))


@cache
def _detector() -> Any:
    return _builder().with_low_accuracy_mode().build()


def _builder() -> Any:
    try:
        from lingua import IsoCode639_1, LanguageDetectorBuilder
    except ImportError as error:
        raise WeightsMismatch("language detection is missing; install headrace[media]") from error
    return LanguageDetectorBuilder.from_iso_codes_639_1(
        *(getattr(IsoCode639_1, code.upper()) for code in LANGUAGES)
    )
