"""Recorded clicks from files, as `Click` events in time order.

Files are rarely sorted (MovieLens is not), and may be larger than memory. So a file is read twice: once for an
index of 24 bytes a line (time, place, number), and then, in the index's order, line by line through a memory
map. Lines of one time keep the file's order. A bad line is reported with its number and the rest goes on.

Rules of the formats:
- `jsonl`: one `media.click.v1` a line; `id` may be missing.
- `movielens`: RecBole's `.inter` (tabs, header) or GroupLens' `ratings.dat` (`::`) and `ratings.csv`. A rating of
  4 or more is a like, from 3 a click, less a skip: people who rate have watched, so low is dislike.
- `yoochoose`: `SessionId ItemId Time` in seconds (tabs, header), or the original `yoochoose-clicks.dat`
  (`session,ISO time,item,category`). A session is the reader, since the shop logged nobody in.

Knows nothing of brokers.
"""

import mmap
import uuid
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from hashlib import sha1
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from streams.errors import EnvironmentProblem, UserMistake
from streams.events import Click, Id, Kind, ListWishes, Milliseconds

NAMESPACE = uuid.UUID("b3c0c4ae-6d4e-5c0e-9d0a-6f2f0a5c7f11").bytes
REMEMBERED = 100
"""Bad lines kept with their reasons; beyond, they are only counted."""
MAX_LINE_BYTES = 1 << 20


class BadLine(ValueError):
    """A line that is no click of its format; the message says why."""


@dataclass(slots=True)
class BadLines:
    """What was left out: a count, and the first few as (number from 1, reason).

    `unit` is what the numbers count: lines of a file, or files, whose reasons name them.
    """

    strict: bool = False
    unit: Literal["line", "file"] = "line"
    count: int = 0
    first: list[tuple[int, str]] = field(default_factory=list)

    def add(self, number: int, reason: str) -> None:
        """Count it. Raises UserMistake when strict."""
        if self.strict:
            raise UserMistake(self.words(number, reason))
        self.count += 1
        if len(self.first) < REMEMBERED:
            self.first.append((number, reason))

    def words(self, number: int, reason: str) -> str:
        """One of them for people."""
        return f"line {number}: {reason}" if self.unit == "line" else reason


Parse = Callable[[bytes], Click]
"""One line without its end -> a click, `id` empty where the format has none. Raises BadLine."""


def read_clicks(path: Path, form: str, bad: BadLines) -> Iterator[Click]:
    """The file's clicks in time order. Raises UserMistake for a wrong format, EnvironmentProblem for no file.

    Ids are a function of the file's name, the line's number and its content: playing a file again gives the
    same ids, and a file that grew keeps those it had.
    """
    if form not in FORMATS:
        raise UserMistake(f"format {form!r} is not one of {', '.join(FORMATS)}, items, media")
    try:
        if path.stat().st_size == 0:
            return
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield from _in_time_order(data, path.name, FORMATS[form](data), bad)
    except OSError as error:
        raise EnvironmentProblem(f"cannot read {path}: {error.strerror}") from error


def _in_time_order(data: mmap.mmap, name: str, parse: Parse, bad: BadLines) -> Iterator[Click]:
    starts, numbers = _index(data, parse, bad)
    salt = NAMESPACE + name.encode() + b"\0"
    for start, number in zip(starts, numbers, strict=True):
        data.seek(start)
        line = data.readline().rstrip(b"\r\n")
        click = parse(line)
        if not click.id:
            click.id = _uuid5(salt + b"%d\0" % number + line)
        yield click


def _uuid5(name: bytes) -> str:
    """What uuid.uuid5 gives, at a third of its cost: a fifth of playing a click was this."""
    h = sha1(name, usedforsecurity=False).hexdigest()
    variant = "89ab"[int(h[16], 16) & 3]
    return f"{h[:8]}-{h[8:12]}-5{h[13:16]}-{variant}{h[17:20]}-{h[20:32]}"


def _index(data: mmap.mmap, parse: Parse, bad: BadLines) -> tuple["array[int]", "array[int]"]:
    """Where the good lines start and their numbers, sorted by time (stable)."""
    times, starts, numbers = array("q"), array("q"), array("q")
    number = 0
    data.seek(0)
    while True:
        start = data.tell()
        line = data.readline()
        if not line:
            break
        number += 1
        line = line.rstrip(b"\r\n")
        if not line or (number == 1 and is_header(line)):
            continue
        try:
            if len(line) > MAX_LINE_BYTES:
                raise BadLine(f"{len(line)} bytes are too long for a click")
            times.append(parse(line).at)
        except BadLine as error:
            bad.add(number, str(error))
            continue
        starts.append(start)
        numbers.append(number)
    order = np.argsort(np.frombuffer(times, np.int64), kind="stable") if len(times) else np.zeros(0, np.int64)
    return _taken(starts, order), _taken(numbers, order)


def _taken(values: "array[int]", order: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> "array[int]":
    taken = array("q")
    if len(values):
        taken.frombytes(np.frombuffer(values, np.int64)[order].tobytes())
    return taken


def is_header(line: bytes) -> bool:
    """Whether a file's first line names columns."""
    return line.split(b"\t")[0].partition(b":")[0] in (b"user_id", b"SessionId", b"session_id") or (
        line.startswith(b"userId,")
    )


class _Line(msgspec.Struct, gc=False):
    """A click whose `id` may be missing."""

    user: Id
    item: Id
    kind: Kind
    at: Milliseconds
    id: str = ""
    dwell_s: float | None = None
    source: str | None = None
    context: dict[str, str | int | float | bool | None] | None = None
    wishes: ListWishes | None = None


def _jsonl(_: mmap.mmap) -> Parse:
    decode = msgspec.json.Decoder(_Line).decode

    def parse(line: bytes) -> Click:
        try:
            read = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadLine(str(error)) from None
        if len(read.id) > 256:
            raise BadLine("id is longer than 256 characters")
        return Click(
            read.id,
            read.user,
            read.item,
            read.kind,
            read.at,
            read.dwell_s,
            read.source,
            read.context,
            read.wishes,
        )

    return parse


def _movielens(data: mmap.mmap) -> Parse:
    rating = movielens_ratings(data)

    def parse(line: bytes) -> Click:
        user, item, stars, at_ms = rating(line)
        kind: Kind = "like" if stars >= 4 else "click" if stars >= 3 else "skip"
        return Click("", user, item, kind, at_ms, source="movielens")

    return parse


def movielens_ratings(data: mmap.mmap) -> Callable[[bytes], tuple[str, str, float, int]]:
    """What makes user, item, stars and milliseconds of a line, from a look at the file's head; it raises BadLine."""
    head = data[:4096].split(b"\n", 1)[0]
    separator = next((mark for mark in ("\t", "::", ",") if mark.encode() in head), None)
    if separator is None:
        raise UserMistake("not MovieLens: its first line has neither tabs, `::` nor commas")

    def parse(line: bytes) -> tuple[str, str, float, int]:
        user, item, rating, at_s = _columns(line, separator, 4, "user, item, rating, unix seconds")
        return user, item, _number(rating, "rating"), _milliseconds(at_s)

    return parse


def _yoochoose(data: mmap.mmap) -> Parse:
    if b"\t" not in data[:4096].split(b"\n", 1)[0]:
        return _yoochoose_original

    def parse(line: bytes) -> Click:
        session, item, at_s = _columns(line, "\t", 3, "SessionId, ItemId, Time")
        return Click("", session, item, "click", _milliseconds(at_s), source="yoochoose")

    return parse


def _yoochoose_original(line: bytes) -> Click:
    session, at, item, _ = _columns(line, ",", 4, "session, time, item, category")
    try:
        moment = datetime.fromisoformat(at.replace("Z", "+00:00"))
    except ValueError:
        raise BadLine(f"{at!r} is no ISO time") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    at_ms = round(moment.timestamp() * 1000)
    if at_ms < 0:
        raise BadLine(f"{at!r} is before 1970")
    return Click("", session, item, "click", at_ms, source="yoochoose")


def _columns(line: bytes, separator: str, count: int, meaning: str) -> list[str]:
    try:
        columns = line.decode().split(separator)
    except UnicodeDecodeError:
        raise BadLine("not UTF-8") from None
    if len(columns) != count:
        raise BadLine(f"{len(columns)} columns instead of {count} ({meaning})")
    if not all(columns) or (len(line) > 256 and max(map(len, columns)) > 256):
        raise BadLine("a column is empty or longer than 256 characters")
    return columns


def _number(text: str, name: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise BadLine(f"{name} {text!r} is no number") from None
    if not -1e15 < number < 1e15:  # also refuses nan
        raise BadLine(f"{name} {text!r} is out of range")
    return number


def _milliseconds(seconds: str) -> int:
    at_ms = round(_number(seconds, "time") * 1000)
    if at_ms < 0:
        raise BadLine(f"time {seconds!r} is before 1970")
    return at_ms


FORMATS: dict[str, Callable[[mmap.mmap], Parse]] = {
    "jsonl": _jsonl,
    "movielens": _movielens,
    "yoochoose": _yoochoose,
}
"""Format -> what makes its line parser from a look at the file's head."""
