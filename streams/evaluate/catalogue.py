"""A catalogue from a file, as unit vectors of a recording's items, by content and by topics alone, and as entries.

The file is one that `headrace feed` takes for items. What an item says of itself weighs by field; the weights are a
starting point that was not tuned on clicks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.taste import content
from models.taste.items.catalogue import Entry
from streams.errors import UserMistake
from streams.feed.clicks import BadLines
from streams.feed.items import Line, read_lines

F32 = NDArray[np.float32]

_WEIGHTS = {"topic": 1.0, "title": 0.5, "author": 0.7, "text": 0.5, "year": 0.5}
_MAX_WORDS = 2_000  # of an item's text


@dataclass(slots=True)
class Catalogue:
    """Vectors (I, D) of length 1, or 0 for items that the file does not have or says nothing of."""

    vectors: F32
    found: int  # items with a vector
    years: F32 = field(default_factory=lambda: np.zeros(0, np.float32))  # (I,) NaN where unknown
    entries: dict[str, Entry] = field(default_factory=dict)
    bad: BadLines = field(default_factory=BadLines)


def read(path: Path, item_names: Sequence[str], dim: int = content.DIM) -> Catalogue:
    """Of two lines of one item the later holds. Raises UserMistake if the file has none of the items."""
    if not path.is_file():
        raise UserMistake(f"there is no file {path}")
    place = {name: i for i, name in enumerate(item_names)}
    years = np.full(len(item_names), np.nan, np.float32)
    made = Catalogue(np.zeros((len(item_names), dim), np.float32), 0, years)
    for _, line in read_lines(path, made.bad):
        if line.item in place:
            made.vectors[place[line.item]] = content.vector(_fields(line), dim)
            years[place[line.item]] = _year(line.year)
            made.entries[line.item] = Entry(line.author, 0, line.topics)
    made.found = int(np.count_nonzero(made.vectors.any(axis=1)))
    if not made.found:
        raise UserMistake(f"--catalogue {path} says nothing of any of the {len(item_names):,} items")
    return made


def topic_vectors(entries: Mapping[str, Entry], item_names: Sequence[str]) -> F32:
    """Vectors (I, T) of length 1 of the items' topics, all alike; 0 for items without any."""
    topics = sorted({topic for name in item_names if name in entries for topic in entries[name].topics})
    at = {topic: nth for nth, topic in enumerate(topics)}
    vectors = np.zeros((len(item_names), max(len(topics), 1)), np.float32)
    for nth, name in enumerate(item_names):
        if name in entries:
            vectors[nth, [at[topic] for topic in entries[name].topics]] = 1
    vectors /= np.maximum(np.sqrt((vectors * vectors).sum(axis=1, keepdims=True)), np.float32(1e-9))
    return vectors


def _year(said: str | None) -> float:
    """NaN for what is no year of four digits."""
    return float(said) if said is not None and len(said) == 4 and said.isdecimal() else float("nan")


def _fields(line: Line) -> list[content.Field]:
    """Words by field; a year is also its decade."""
    year = [] if line.year is None else [line.year, f"{line.year[:-1]}*"]
    return [
        ("topic", _WEIGHTS["topic"], [topic.lower() for topic in line.topics]),
        ("title", _WEIGHTS["title"], content.words(line.title or "")),
        ("author", _WEIGHTS["author"], [line.author.lower()] if line.author else []),
        ("text", _WEIGHTS["text"], content.words(line.text or "")[:_MAX_WORDS]),
        ("year", _WEIGHTS["year"], year),
    ]
