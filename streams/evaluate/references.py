"""Inputs of a task with what is right for each, from a file: for `headrace evaluate TASK` and `headrace train`.

JSON lines, each an object with `text` or `path` (of a file, relative to the list's folder), the reference in
`label`, and optionally `language`; or tab-separated lines, `text-or-path<TAB>label`. An empty label is a reference:
silence has no words. For entities `label` is a list of [start, end, kind], places in characters of `text`.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streams.errors import EnvironmentProblem, UserMistake
from streams.feed.media import media_type_of

_MAX_LINE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Reference:
    """An input and its right answer. One of `text` and `path` is given; `line` is its place in the list."""

    line: int
    text: str | None
    path: Path | None
    label: str
    language: str | None = None
    spans: tuple[tuple[int, int, str], ...] | None = None  # of a label that is a list

    def data(self, max_bytes: int) -> tuple[str, bytes]:
        """Media type and bytes. Raises UserMistake if the file is missing or too large."""
        if self.path is None:
            return "text/plain", (self.text or "").encode()
        try:
            if self.path.stat().st_size > max_bytes:
                raise UserMistake(f"line {self.line}: {self.path} is larger than {max_bytes} bytes")
            return media_type_of(self.path) or "application/octet-stream", self.path.read_bytes()
        except OSError as error:
            raise UserMistake(f"line {self.line}: {self.path}: {error.strerror or error}") from None


def read_references(path: Path, of_files: bool) -> list[Reference]:
    """All of a list; `of_files`: the first column of tab-separated lines is a path.

    Raises EnvironmentProblem if it cannot be read, UserMistake with the number of a malformed line, or if it is empty.
    """
    try:
        with path.open("rb") as file:
            found = [_parsed(path, number, line, of_files) for number, line in _lines(file)]
    except OSError as error:
        raise EnvironmentProblem(f"{path}: {error.strerror or error}") from None
    if not found:
        raise UserMistake(f"{path} holds no line")
    return found


def _lines(file: Any) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := file.readline(_MAX_LINE_BYTES):
        number += 1
        if line.strip():
            yield number, line


def _parsed(path: Path, number: int, line: bytes, of_files: bool) -> Reference:
    try:
        text = line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise UserMistake(f"{path}, line {number}: not UTF-8") from None
    if text.lstrip().startswith("{"):
        return _of_json(path, number, text)
    first, tab, label = text.rpartition("\t")
    if not tab or not first:
        raise UserMistake(
            f"{path}, line {number}: neither JSON nor `{'path' if of_files else 'text'}<TAB>label`"
        )
    if of_files:
        return Reference(number, None, path.parent / first, label.strip())
    return Reference(number, first, None, label.strip())


def _of_json(path: Path, number: int, text: str) -> Reference:
    wanted = 'an object with "text" or "path", and "label"'
    try:
        given = json.loads(text)
    except ValueError as error:
        raise UserMistake(f"{path}, line {number}: {error}") from None
    said, file, label = given.get("text"), given.get("path"), given.get("label")
    language = given.get("language")
    spans = _spans(label)
    if (
        not (isinstance(label, str) or spans is not None)
        or (said is None) == (file is None)
        or not isinstance(said if file is None else file, str)
        or not isinstance(language, str | None)
    ):
        raise UserMistake(f"{path}, line {number}: expected {wanted}")
    here = path.parent / file if file is not None else None
    return Reference(number, said, here, "" if spans is not None else label, language, spans)


def _spans(label: Any) -> tuple[tuple[int, int, str], ...] | None:
    """The spans of a label that is a list of [start, end, kind]; None of any other label."""
    if not isinstance(label, list):
        return None
    found = []
    for one in label:
        if not (
            isinstance(one, list) and [type(part) for part in one] == [int, int, str] and 0 <= one[0] < one[1]
        ):
            return None
        found.append((one[0], one[1], one[2]))
    return tuple(found)
