"""A linear classifier of hashed pieces of a text, 2**17 places: runs of characters, or words with their neighbours.

For languages without spaces between words runs of one and two characters need no segmenter, and for short ones no
vocabulary; where there are spaces, words, pairs of them and the runs of three to five characters within them (as in
fastText, Bojanowski et al., TACL 2017) know inflected and misspelt words. NumPy alone; a text takes 0.1 to 0.5 ms, so
that it runs where texts are prepared and needs no device.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import xxhash
from numpy.typing import NDArray

PLACES = 1 << 17
LONGEST = 2
READ_CHARACTERS = 1000
_BLANK = re.compile(r"\s+")
_WORD = re.compile(r"[^\W_]+|[^\w\s]")
_WITHIN = range(3, 6)  # characters of a run within a word, whose ends count as one each
_READ_WORD_CHARACTERS = 30  # of longer ones (addresses, keys held down) the start

I64 = NDArray[np.int64]
F32 = NDArray[np.float32]


def places(text: str, longest: int = LONGEST) -> I64:
    """Places (K,) of the different runs of 1..`longest` characters, sorted, each once; blanks do not count."""
    text = _BLANK.sub("", text)[:READ_CHARACTERS]
    return _hashed(
        {text[at : at + size] for size in range(1, longest + 1) for at in range(len(text) - size + 1)}
    )


def word_places(text: str) -> I64:
    """Places (K,) of the different words, pairs of neighbours and runs within words, sorted, each once; small letters,
    and the compatible form of each character, whatever was written."""
    text = unicodedata.normalize("NFKC", text[:READ_CHARACTERS]).lower()
    words = [word[:_READ_WORD_CHARACTERS] for word in _WORD.findall(text)]
    found = {f"{one} {other}" for one, other in pairwise(words)}
    for word in set(words):
        whole = f"<{word}>"
        found.add(f" {word}")
        found.update(whole[at : at + size] for size in _WITHIN for at in range(len(whole) - size + 1))
    return _hashed(found)


def _hashed(pieces: Iterable[str]) -> I64:
    return np.unique(np.array([xxhash.xxh64_intdigest(one.encode()) % PLACES for one in pieces], np.int64))


@dataclass(frozen=True, slots=True)
class NgramClassifier:
    """Two classes. Logit of a text with K places, as `read` gives them: sum of `weights` there / sqrt(K) + `bias`."""

    weights: F32
    bias: float
    read: Callable[[str], I64] = places

    def score(self, text: str) -> float:
        """Probability of the second class, 0..1. Thread-safe."""
        found = self.read(text)
        logit = float(self.weights[found].sum()) / max(len(found), 1) ** 0.5 + self.bias
        return float(1 / (1 + np.exp(-logit)))
