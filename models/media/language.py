"""Which language a text is in, so that no model judges what it cannot read. Lingua (Apache-2.0), no network.

Two passes. The quick one (trigrams, 3,000 texts/s, 3 MB) is believed where it names a language that the caller
reads, or one with a script of its own. All else goes to the full models (800 texts/s; 0.5 GB, read from the
package at the first such text): the quick one takes 2.4 % of film reviews in English for another language, the
full ones none with a share of 0.3. A word or two in Latin letters may belong to many languages: then `code` is
None, and what the sender declared counts.
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
_SURE = 0.9  # of the quick pass
_LEAST_SHARE = 0.3  # of the full models; less will do where they hardly believe in what the caller reads
_LEAST_SHARE_FOREIGN, _MOST_SHARE_READ = 0.2, 0.03
_EAST_ASIAN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_EAST_ASIAN_LETTERS = 3  # such a character is a syllable or a word


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

    `declared` (such as "en-GB") decides where the text does not; `reads`: languages that the quick pass is
    believed in. Raises WeightsMismatch if lingua is not installed.
    """
    text = text[:_READ_CHARACTERS]
    letters = [char for char in text if char.isalpha()]
    if not letters:
        return Language(None, 0.0, letters=False)
    east_asian = _EAST_ASIAN.findall(text)
    if east_asian and _EAST_ASIAN_LETTERS * len(east_asian) >= len(letters) - len(east_asian):
        text = "".join(east_asian)
    code, share, read = _likeliest(_quick(), text, reads)
    own_script = not any(char < "\u0370" for char in letters)
    if share < _SURE or not (code in reads or (own_script and share > 0.99) or east_asian):
        code, share, read = _likeliest(_full(), text, reads)
    if share >= _LEAST_SHARE or (share >= _LEAST_SHARE_FOREIGN and read <= _MOST_SHARE_READ):
        return Language(code, share, letters=True)
    said = (declared or "").partition("-")[0].lower()
    return Language(said if said in LANGUAGES else None, share, letters=True)


def _likeliest(detector: Any, text: str, reads: Collection[str]) -> tuple[str, float, float]:
    """The best language, the share of belief in it, and in all of `reads`."""
    shares = {
        found.language.iso_code_639_1.name.lower(): float(found.value)
        for found in detector.compute_language_confidence_values(text)
    }
    best = max(shares, key=lambda code: shares[code])
    return best, shares[best], sum(shares[code] for code in reads if code in shares)


@cache
def _quick() -> Any:
    return _builder().with_low_accuracy_mode().build()


@cache
def _full() -> Any:
    return _builder().build()


def _builder() -> Any:
    try:
        from lingua import IsoCode639_1, LanguageDetectorBuilder
    except ImportError as error:
        raise WeightsMismatch("language detection is missing; install headrace[media]") from error
    return LanguageDetectorBuilder.from_iso_codes_639_1(
        *(getattr(IsoCode639_1, code.upper()) for code in LANGUAGES)
    )
