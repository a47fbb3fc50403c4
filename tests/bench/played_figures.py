"""Figures of `played.py`: seeded bootstrap intervals, and word errors of transcripts. Knows nothing of brokers."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SEED = 7
DRAWS = 1000

_ONES = [
    *(
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
    ),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def ratio(tops: Sequence[float], bottoms: Sequence[float] | None = None) -> dict[str, Any]:
    """sum(tops) / sum(bottoms) with a 95 % bootstrap interval over the places (readers, texts, recordings).

    `bottoms` None: one each, so a share. No interval when there is nothing to divide.
    """
    top = np.asarray(tops, float)
    bottom = np.ones(len(top)) if bottoms is None else np.asarray(bottoms, float)
    if not bottom.sum():
        return {"value": None, "ci95": None, "of": 0}
    rng, n = np.random.default_rng(SEED), len(top)
    drawn = np.empty(DRAWS)
    for i in range(DRAWS):
        pick = rng.integers(0, n, n)
        drawn[i] = top[pick].sum() / max(bottom[pick].sum(), 1e-12)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return {
        "value": round(float(top.sum() / bottom.sum()), 4),
        "ci95": [round(float(low), 4), round(float(high), 4)],
        "of": int(bottom.sum()),
    }


def shown(figure: dict[str, Any]) -> str:
    """`0.123 (0.110 to 0.137)`."""
    if figure["value"] is None:
        return "-"
    low, high = figure["ci95"]
    return f"{figure['value']:.3f} ({low:.3f} to {high:.3f})"


def words(text: str, each_digit: bool) -> list[str]:
    """Lower-case words without marks; numbers spelt out: each digit by itself, or as a number below 100."""

    def spelt(found: re.Match[str]) -> str:
        number = found.group()
        if each_digit or int(number) > 99:
            return " ".join(_ONES[int(digit)] for digit in number).join("  ")
        value = int(number)
        if value < 20:
            return f" {_ONES[value]} "
        return f" {_TENS[value // 10 - 2]} {_ONES[value % 10] if value % 10 else ''} "

    text = re.sub(r"(?<=\d),(?=\d)", "", text.lower())
    return re.sub(r"[^a-z' ]+", " ", re.sub(r"\d+", spelt, text)).split()


@dataclass(slots=True)
class WordErrors:
    """Over many recordings: errors and reference words a recording, and which words became which."""

    errors: list[int] = field(default_factory=list)
    spoken: list[int] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    substitutions: Counter[str] = field(default_factory=Counter)

    def add(self, said: list[str], heard: list[str]) -> None:
        """One recording."""
        changes = aligned(said, heard)
        self.errors.append(len(changes))
        self.spoken.append(len(said))
        for one, other in changes:
            self.kinds["deleted" if not other else "inserted" if not one else "substituted"] += 1
            if one and other:
                self.substitutions[f"{one} > {other}"] += 1

    def figures(self) -> dict[str, Any]:
        return {
            "word_error_rate": ratio(self.errors, self.spoken),
            "without_error": ratio([count == 0 for count in self.errors]),
            **{kind: self.kinds[kind] for kind in ("substituted", "deleted", "inserted")},
            "most_frequent": dict(self.substitutions.most_common(12)),
        }


def aligned(said: list[str], heard: list[str]) -> list[tuple[str, str]]:
    """The fewest changes (Levenshtein) as (said, heard); an empty side is an insertion or a deletion."""
    cost = np.zeros((len(said) + 1, len(heard) + 1), int)
    cost[:, 0], cost[0, :] = np.arange(len(said) + 1), np.arange(len(heard) + 1)
    for i, one in enumerate(said, 1):
        for j, other in enumerate(heard, 1):
            cost[i, j] = min(cost[i - 1, j] + 1, cost[i, j - 1] + 1, cost[i - 1, j - 1] + (one != other))
    changes, i, j = [], len(said), len(heard)
    while i or j:
        if i and j and cost[i, j] == cost[i - 1, j - 1] + (said[i - 1] != heard[j - 1]):
            i, j = i - 1, j - 1
            if said[i] != heard[j]:
                changes.append((said[i], heard[j]))
        elif i and cost[i, j] == cost[i - 1, j] + 1:
            i -= 1
            changes.append((said[i], ""))
        else:
            j -= 1
            changes.append(("", heard[j]))
    return changes[::-1]
