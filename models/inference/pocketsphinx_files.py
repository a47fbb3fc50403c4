"""The acoustic model and dictionary of the pocketsphinx package (US English), by which closed vocabularies are heard.

Plain binary files and text, no code; checked against their hash. Knows nothing of sound or labels.
"""

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from models.errors import WeightsMismatch
from models.types import ModelInfo

VERSION = "5.1.1"
_SHA256 = "26aac07f78e0d1cad2f0dc3bb21842fbf8a7c354362f50bc95bedddd844a9196"
_ACOUSTIC = "model/en-us/en-us"
_DICTIONARY = "model/en-us/cmudict-en-us.dict"
_FILES = (
    f"{_ACOUSTIC}/feat.params",
    f"{_ACOUSTIC}/mdef",
    f"{_ACOUSTIC}/means",
    f"{_ACOUSTIC}/noisedict",
    f"{_ACOUSTIC}/sendump",
    f"{_ACOUSTIC}/transition_matrices",
    f"{_ACOUSTIC}/variances",
    _DICTIONARY,
)
# What each word costs: at pocketsphinx's own 0.65 it puts words before the first one (3 in 21 of spoken cards; 1 from
# 0.1 to 0.01), and loses them from 0.0001 on.
_WORD_COST = 0.03
INFO = ModelInfo("pocketsphinx-en-us", VERSION, _SHA256, "int16")


def checked_folder() -> Path:
    """The package's folder, found without importing it. Raises WeightsMismatch if it is absent or another."""
    spec = find_spec("pocketsphinx")
    if spec is None or spec.origin is None:
        raise WeightsMismatch(
            "closed vocabularies need pocketsphinx; run: pip install 'headrace[closed-vocabulary]'"
        )
    folder = Path(spec.origin).parent
    hashed = hashlib.sha256()
    for name in _FILES:
        if not (folder / name).is_file():
            raise WeightsMismatch(f"{folder / name} is missing; install pocketsphinx=={VERSION} again")
        hashed.update((folder / name).read_bytes())
    if hashed.hexdigest() != _SHA256:
        raise WeightsMismatch(f"{folder} is not the model of pocketsphinx {VERSION}; install that version")
    return folder


def unknown_words(folder: Path, words: list[str]) -> list[str]:
    """Those of the words that the dictionary does not know how to pronounce."""
    with (folder / _DICTIONARY).open(encoding="utf-8") as file:
        known = {line.partition(" ")[0] for line in file}
    return [word for word in words if word not in known]


def decoder(folder: Path, grammar: str) -> Any:
    """One recognizer of a JSGF grammar; for one thread. Raises ValueError if the grammar cannot be read."""
    from pocketsphinx import Decoder

    made = Decoder(
        hmm=str(folder / _ACOUSTIC),
        dict=str(folder / _DICTIONARY),
        lm=None,
        bestpath=False,
        wip=_WORD_COST,
        samprate=16_000,
        loglevel="FATAL",
    )
    try:
        made.add_jsgf_string("closed", grammar)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"the grammar cannot be read: {error}") from None
    made.activate_search("closed")
    return made
