"""Recorded clicks from files, as columns for evaluation. Lines that do not parse are counted and left out.

The formats are those of `streams.feed.clicks`. There a rating becomes a like, a click or a skip; here the protocol says
what a rating is: with `fives` those of 5 are clicks and the others are not there, else every one is a click.
"""

import mmap
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluate.recording import MAX_AT_MS, Recording
from models.taste import actions
from streams.errors import UserMistake
from streams.feed.clicks import FORMATS, MAX_LINE_BYTES, BadLine, BadLines, is_header, movielens_ratings

_CLICK = actions.CODES["click"]


@dataclass(slots=True)
class Loaded:
    """What the files gave: events of `train` first, each file's by time (stable)."""

    recording: Recording
    users: int
    trained: int  # events of the file to learn from
    trained_later: int  # ... that are later than the first event of the file to be scored: they would leak
    bad: dict[str, BadLines]  # by file, those with bad lines alone


@dataclass(slots=True)
class _Columns:
    """Grown line by line, 41 bytes an event beside the names."""

    users: "array[int]" = field(default_factory=lambda: array("q"))
    items: "array[int]" = field(default_factory=lambda: array("q"))
    at_ms: "array[int]" = field(default_factory=lambda: array("q"))
    kinds: "array[int]" = field(default_factory=lambda: array("b"))
    dwell_s: "array[float]" = field(default_factory=lambda: array("d"))
    ratings: "array[float]" = field(default_factory=lambda: array("d"))  # NaN where there is none


Taken = tuple[str, str, int, int, float, float]
"""User, item, milliseconds, code of the kind, seconds of dwelling, rating or NaN."""
_NAN = float("nan")


def load(path: Path, form: str, fives: bool, train: Path | None, limit: int | None = None) -> Loaded:
    """Read both files; of `path` the first `limit` events in time order.

    Raises UserMistake for a missing, empty or entirely unreadable file and a wrong format.
    """
    if form not in FORMATS:
        raise UserMistake(f"--format {form}: it is one of {', '.join(sorted(FORMATS))}")
    if fives and form != "movielens":
        raise UserMistake(f"--protocol fives keeps ratings of 5, and {form} has no ratings")
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    bad: dict[str, BadLines] = {}
    parts: list[list[NDArray[Any]]] = []
    for one in (train, path) if train else (path,):
        mine = BadLines()
        columns = _read(one, form, fives, users, items, mine)
        if mine.count:
            bad[str(one)] = mine
        if not len(columns.at_ms):
            raise UserMistake(_nothing_in(one, form, fives, mine))
        parts.append([column[: limit if one is path else None] for column in _sorted(columns)])
    trained = len(parts[0][2]) if train else 0
    user, item, at_ms, kinds, dwell_s, ratings = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    user, kept_users = _by_first_appearance(user)
    item, kept_items = _by_first_appearance(item)
    names = list(items)
    return Loaded(
        Recording(
            user,
            item,
            at_ms,
            kinds,
            actions.weights_of(kinds, dwell_s),
            tuple(names[i] for i in kept_items.tolist()),
            None if np.isnan(ratings).all() else ratings,
        ),
        users=len(kept_users),
        trained=trained,
        trained_later=int(np.count_nonzero(at_ms[:trained] > at_ms[trained])) if trained else 0,
        bad=bad,
    )


def _read(
    path: Path, form: str, fives: bool, users: dict[str, int], items: dict[str, int], bad: BadLines
) -> _Columns:
    columns = _Columns()
    try:
        if path.stat().st_size == 0:
            raise UserMistake(f"{path} is empty")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for user, item, at_ms, kind, dwell_s, rating in _taken(data, _parser(data, form, fives), bad):
                columns.users.append(users.setdefault(user, len(users)))
                columns.items.append(items.setdefault(item, len(items)))
                columns.at_ms.append(at_ms)
                columns.kinds.append(kind)
                columns.dwell_s.append(dwell_s)
                columns.ratings.append(rating)
    except FileNotFoundError:
        raise UserMistake(f"there is no file {path}") from None
    except OSError as error:
        raise UserMistake(f"cannot read {path}: {error.strerror}") from error
    return columns


def _taken(data: mmap.mmap, parse: Callable[[bytes], Taken | None], bad: BadLines) -> Iterator[Taken]:
    for number, line in enumerate(iter(data.readline, b""), start=1):
        line = line.rstrip(b"\r\n")
        if not line or (number == 1 and is_header(line)):
            continue
        try:
            if len(line) > MAX_LINE_BYTES:
                raise BadLine(f"{len(line)} bytes are too long for a click")
            event = parse(line)
            if event is None:
                continue
            if event[2] >= MAX_AT_MS:
                raise BadLine("the time is after the year 4199")
        except BadLine as error:
            bad.add(number, str(error))
            continue
        yield event


def _parser(data: mmap.mmap, form: str, fives: bool) -> Callable[[bytes], Taken | None]:
    """A line's event; None for one that is well-formed and not of the protocol."""
    if form == "movielens":
        rating = movielens_ratings(data)

        def rated(line: bytes) -> Taken | None:
            user, item, stars, at_ms = rating(line)
            return (user, item, at_ms, _CLICK, 0.0, stars) if not fives or stars == 5 else None

        return rated
    click = FORMATS[form](data)

    def clicked(line: bytes) -> Taken:
        event = click(line)
        return event.user, event.item, event.at, actions.CODES[event.kind], event.dwell_s or 0.0, _NAN

    return clicked


def _sorted(columns: _Columns) -> list[NDArray[Any]]:
    at_ms = np.array(columns.at_ms, np.int64)
    order = np.argsort(at_ms, kind="stable")
    users, items = np.array(columns.users, np.int64), np.array(columns.items, np.int64)
    kinds, dwell_s = np.array(columns.kinds, np.int8), np.array(columns.dwell_s, np.float64)
    ratings = np.array(columns.ratings, np.float32)
    return [column[order] for column in (users, items, at_ms, kinds, dwell_s, ratings)]


def _by_first_appearance(numbers: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers 0, 1, ... in the order of first appearance, and the old number of each."""
    old, first, back = np.unique(numbers, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return place[back], old[order].astype(np.int64)


def _nothing_in(path: Path, form: str, fives: bool, bad: BadLines) -> str:
    if bad.count:
        number, reason = bad.first[0]
        return f"no line of {path} is {form}: {bad.count} bad, the first is {bad.words(number, reason)}"
    return f"{path} has no {'rating of 5' if fives else 'event'}"


def bad_as_json(bad: dict[str, BadLines], shown: int) -> list[dict[str, object]]:
    """Counts, and the first few by line number."""
    return [{"file": name, "count": lines.count, "first": lines.first[:shown]} for name, lines in bad.items()]


def bad_in_words(bad: dict[str, BadLines], shown: int) -> Sequence[str]:
    """For people, a file or a line each."""
    words = []
    for name, lines in bad.items():
        words.append(f"left out {lines.count} bad line{'s' * (lines.count != 1)} of {name}")
        words += [f"  {lines.words(number, reason)}" for number, reason in lines.first[:shown]]
        if lines.count > shown:
            words.append(f"  and {lines.count - shown} more")
    return words
