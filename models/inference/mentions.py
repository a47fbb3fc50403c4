"""What finders of entities share: mentions at places in a text, and cutting long texts between words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from models.types import ModelInfo, Unit


@dataclass(frozen=True, slots=True)
class Mention:
    """Characters [start, end) of a text name something of a kind (the model's own word); `score` 0..1 or None."""

    start: int
    end: int
    kind: str
    score: float | None


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text and where it begins in it, in characters."""

    start: int
    text: str


class Finder(Protocol):
    """A model of entities. `languages` is what it reads, None for all; `batch_cost` as a task's.

    `longest`: words of which a text of a few thousand makes a piece as long as they come.
    """

    model: ModelInfo
    languages: frozenset[str] | None
    batch_cost: int
    longest: str

    def pieces(self, text: str) -> list[Unit]:
        """The units of a text, at least one; thread-safe."""
        ...

    def find(self, units: Sequence[Unit]) -> list[list[Mention]]:
        """What each unit names, in places of the whole text; called by one thread only."""
        ...


def cut(text: str, most: int) -> list[tuple[int, int]]:
    """Stretches [start, end) of at most `most` characters that cover a text, cut behind blanks where there are any."""
    stretches = []
    start = 0
    while len(text) - start > most:
        end = start + most
        for blank in ("\n", ". ", " "):
            at = text.rfind(blank, start + most // 2, end)
            if at >= 0:
                end = at + len(blank)
                break
        stretches.append((start, end))
        start = end
    return [*stretches, (start, len(text))]
