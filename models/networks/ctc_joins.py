"""Tokens of a stretch of speech that was cut without a pause, from windows that overlap at each cut.

Near its edge a network lacks context: it hears half a word, or the same word otherwise. So both windows reach over the
cut, and the second takes over from the first where neither has a token for longest: at a blank, between words if one is
at hand. What each says beyond that is left out. Pure.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Timed:
    """Tokens of one window, when each begins in the recording, the probability of each."""

    tokens: tuple[int, ...]
    at_s: tuple[float, ...]
    scores: tuple[float, ...]

    def between(self, start_s: float, end_s: float) -> "Timed":
        """Those that begin in [start, end)."""
        kept = [place for place, at_s in enumerate(self.at_s) if start_s <= at_s < end_s]
        return Timed(
            *(tuple(part[place] for place in kept) for part in (self.tokens, self.at_s, self.scores))  # type: ignore[arg-type]
        )


def joined(
    windows: Sequence[Timed],
    cuts_s: Sequence[float | None],
    reach_s: float,
    ends_word: Callable[[int], bool],
) -> list[Timed]:
    """Each window's own tokens. `cuts_s`, one fewer: where it was cut from the next, None: there was a pause;
    `reach_s`: how far from there the next one may take over."""
    own = list(windows)
    for at, cut_s in enumerate(cuts_s):
        if cut_s is None:
            continue
        over_s = takes_over_s(own[at], own[at + 1], cut_s - reach_s, cut_s + reach_s, ends_word)
        own[at] = own[at].between(float("-inf"), over_s)
        own[at + 1] = own[at + 1].between(over_s, float("inf"))
    return own


def takes_over_s(
    left: Timed, right: Timed, start_s: float, end_s: float, ends_word: Callable[[int], bool]
) -> float:
    """The middle of the longest time without a token of either between these two."""
    found = [
        (at_s, ends_word(token))
        for one in (left, right)
        for token, at_s in zip(one.tokens, one.at_s, strict=True)
    ]
    points = [(start_s, False), *sorted(one for one in found if start_s < one[0] < end_s), (end_s, False)]
    gaps = [(b - a, (a + b) / 2, ends) for (a, ends), (b, _) in pairwise(points)]
    return max([gap for gap in gaps if gap[2]] or gaps)[1]
