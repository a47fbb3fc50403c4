"""A catalogue from a file, as `Item` events in the file's order: JSON lines, or RecBole's `.item` of MovieLens.

JSON lines are `media.item.v1`, where `id` and `at` may be missing. RecBole's file has tabs and a header
(`item_id:token movie_title:token_seq … class:token_seq`); the classes become topics. Knows nothing of brokers.
"""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from streams.errors import EnvironmentProblem
from streams.events import Id, Item, Milliseconds, Name
from streams.feed.clicks import MAX_LINE_BYTES, BadLine, BadLines

_NAMESPACE = uuid.UUID("0f5c3f0e-52a9-5a6f-8f0a-6f6f2a1d9c55")
_HEADER = b"item_id:token"


class Line(msgspec.Struct):
    """An item whose `id` and `at` may be missing. `year` is what a file says beyond `Item`."""

    item: Id
    id: str = ""
    at: Milliseconds | None = None
    title: str | None = None
    text: str | None = None
    author: Name | None = None
    topics: list[Name] = []
    available: bool = True
    published_at: Milliseconds | None = None
    year: str | None = None


def read_items(path: Path, bad: BadLines, now_ms: int) -> Iterator[Item]:
    """The file's items; what has no time is from now. Ids follow from the line's content.

    Raises EnvironmentProblem when the file cannot be read.
    """
    for line, read in read_lines(path, bad):
        yield Item(
            read.id or str(uuid.uuid5(_NAMESPACE, line.decode().rstrip("\r\n"))),
            read.item,
            now_ms if read.at is None else read.at,
            read.title,
            read.text,
            read.author,
            read.topics,
            read.available,
            read.published_at,
        )


def read_lines(path: Path, bad: BadLines) -> Iterator[tuple[bytes, Line]]:
    """Lines as they stand and what they say; bad ones are counted. Raises EnvironmentProblem as `read_items`."""
    try:
        with path.open("rb") as file:
            first = file.readline(MAX_LINE_BYTES)
            parse = _recbole(first) if first.startswith(_HEADER) else _json
            if not first.startswith(_HEADER):
                file.seek(0)
            skipped = 1 if first.startswith(_HEADER) else 0
            for number, line in enumerate(file, 1 + skipped):
                if not line.strip():
                    continue
                try:
                    yield line, parse(line.rstrip(b"\r\n"))
                except BadLine as error:
                    bad.add(number, str(error))
    except OSError as error:
        raise EnvironmentProblem(f"cannot read {path}: {error.strerror}") from error


_decode = msgspec.json.Decoder(Line).decode


def _json(line: bytes) -> Line:
    try:
        return _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadLine(str(error)) from None


def _recbole(header: bytes) -> Callable[[bytes], Line]:
    names = [
        column.partition(":")[0] for column in header.decode("utf-8", "replace").rstrip("\r\n").split("\t")
    ]

    def parse(line: bytes) -> Line:
        try:
            columns = line.decode().split("\t")
        except UnicodeDecodeError:
            raise BadLine("not UTF-8") from None
        if len(columns) != len(names):
            raise BadLine(f"{len(columns)} columns instead of {len(names)} ({', '.join(names)})")
        row = dict(zip(names, columns, strict=True))
        item = row["item_id"]
        if not 0 < len(item) <= 256:
            raise BadLine("item_id is empty or longer than 256 characters")
        return Line(
            item,
            title=row.get("movie_title") or None,
            topics=row.get("class", "").split(),
            year=row.get("release_year") or None,
        )

    return parse
