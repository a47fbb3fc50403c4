"""Word and character error rates: (substituted + left out + put in) / spoken, summed over all recordings. NumPy alone.

Text is compared in lower case, compatibility forms joined (NFKC), hyphens as spaces, and without what is neither
letter, mark, digit nor an apostrophe within a word; whole numbers are spelt out in English. Languages that write no
spaces are compared by character.
"""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.evaluate.labelled import Share, share_of

_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen - - twenty thirty forty fifty sixty seventy eighty ninety"
)
_SMALL, _TENS = tuple(_NUMBERS.split(" "))[:20], tuple(_NUMBERS.split(" "))[20:]
_APOSTROPHES = "'’ʼ"
_HYPHENS = "-‐‑–—"


@dataclass(frozen=True, slots=True)
class Alignment:
    """How a transcript differs from what was said. `substituted`: (said, heard) pairs in order."""

    said: int
    substituted: tuple[tuple[str, str], ...]
    left_out: tuple[str, ...]
    put_in: tuple[str, ...]

    @property
    def errors(self) -> int:
        """The fewest edits."""
        return len(self.substituted) + len(self.left_out) + len(self.put_in)


@dataclass(frozen=True, slots=True)
class ErrorRate:
    """`rate` may exceed 1. `whole`: share of recordings without an error; the commonest mistakes with their counts."""

    unit: str  # word, character
    recordings: int
    said: int
    rate: Share
    whole: float
    substituted: int
    left_out: int
    put_in: int
    substitutions: tuple[tuple[str, str, int], ...]


def compared(text: str, by_character: bool) -> list[str]:
    """The words or characters of a text that count."""
    kept = []
    text = unicodedata.normalize("NFKC", text).lower()
    for at, char in enumerate(text):
        if (
            char in _APOSTROPHES
            and 0 < at < len(text) - 1
            and text[at - 1].isalpha()
            and text[at + 1].isalpha()
        ):
            kept.append("'")
        elif unicodedata.category(char)[0] in "LMN":
            kept.append(char)
        elif char.isspace() or char in _HYPHENS:
            kept.append(" ")
    joined = "".join(kept)
    if by_character:
        return list("".join(joined.split()))
    return [word for token in joined.split() for word in _spelt(token)]


def _spelt(token: str) -> list[str]:
    """A whole number below a million in English words, as it is read aloud; any other token as it stands."""
    if not (token.isascii() and token.isdigit() and len(token) <= 6):
        return [token]
    number = int(token)
    if number < 20:
        return [_SMALL[number]]
    if number < 100:
        return [_TENS[number // 10], *([_SMALL[number % 10]] if number % 10 else [])]
    for size, name in ((1000, "thousand"), (100, "hundred")):
        if number >= size:
            rest = number % size
            return [*_spelt(str(number // size)), name, *(_spelt(str(rest)) if rest else [])]
    raise AssertionError(number)


def align(said: Sequence[str], heard: Sequence[str]) -> Alignment:
    """Levenshtein's alignment; among equally short ones, substitutions before insertions and deletions."""
    rows, columns = len(said) + 1, len(heard) + 1
    cost = np.zeros((rows, columns), np.int32)
    cost[:, 0], cost[0] = np.arange(rows), np.arange(columns)
    for at in range(1, rows):
        for to in range(1, columns):
            same = said[at - 1] == heard[to - 1]
            cost[at, to] = min(cost[at - 1, to - 1] + (not same), cost[at - 1, to] + 1, cost[at, to - 1] + 1)
    at, to = rows - 1, columns - 1
    pairs: list[tuple[str, str]] = []
    left_out: list[str] = []
    put_in: list[str] = []
    while at or to:
        if at and to and cost[at, to] == cost[at - 1, to - 1] + (said[at - 1] != heard[to - 1]):
            at, to = at - 1, to - 1
            if said[at] != heard[to]:
                pairs.append((said[at], heard[to]))
        elif at and cost[at, to] == cost[at - 1, to] + 1:
            at -= 1
            left_out.append(said[at])
        else:
            to -= 1
            put_in.append(heard[to])
    return Alignment(len(said), tuple(pairs[::-1]), tuple(left_out[::-1]), tuple(put_in[::-1]))


def error_rate(pairs: Sequence[tuple[str, str]], by_character: bool, seed: int) -> ErrorRate:
    """Of (said, heard) texts; the interval is by bootstrap over recordings. Raises ValueError if nothing was said."""
    aligned = [align(compared(said, by_character), compared(heard, by_character)) for said, heard in pairs]
    errors = np.array([one.errors for one in aligned], np.float64)
    sizes = np.array([one.said for one in aligned], np.float64)
    if not sizes.sum():
        raise ValueError("no reference holds a word")
    mistakes = Counter(pair for one in aligned for pair in one.substituted)
    return ErrorRate(
        unit="character" if by_character else "word",
        recordings=len(aligned),
        said=int(sizes.sum()),
        rate=share_of(errors, sizes, seed),
        whole=float((errors == 0).mean()),
        substituted=sum(len(one.substituted) for one in aligned),
        left_out=sum(len(one.left_out) for one in aligned),
        put_in=sum(len(one.put_in) for one in aligned),
        substitutions=tuple((said, heard, count) for (said, heard), count in mistakes.most_common(20)),
    )
