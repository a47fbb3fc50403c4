"""The items of lists as JSON, many lists at once: the bytes of `streams.taste.lists.named`, without its objects. Pure.

Twenty items with eighty reasons cost a list more as objects than its ranking. Here each item is a line of a table of
bytes, every line laid out alike with room for the longest text; texts are put in as columns, and what stays empty is
taken out at the end. Lists that do not fit (further sources, an explored item, a short list, a share beyond 2, a long
name) are made of objects as ever.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.taste.lists.reasons import Lists
from streams.taste.lists import SMALLEST_SHARE, named, shares_of

U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

NAME_BYTES = 24  # of an item's name in JSON, at most
SCORE_BYTES = 12
STEPS = 10_000  # to 1: shares have four places
LARGEST = 2 * STEPS  # where the reader's taste speaks against what others came to, its share is above 1
SHARE_BYTES = len("0.0001")
FEW = 4  # lists; fewer are faster as objects
UNSEEN, FITS, TOO_LONG = 0, 1, 2


class Writer:
    """Of the items of one index."""

    def __init__(self, names: Sequence[str | None]) -> None:
        """`names` by item, which become more."""
        self._names = names
        self._texts: U8 = np.zeros((0, NAME_BYTES), np.uint8)
        self._fit: NDArray[np.int8] = np.zeros(0, np.int8)

    def items(self, lists: Lists) -> list[msgspec.Raw]:
        """The JSON array of each of B lists."""
        if len(lists.items) < FEW:
            return self._of_objects(lists)
        because, _, parts = shares_of(lists)
        steps = np.rint(parts.reshape(4, -1) * STEPS)
        scores: NDArray[Any] = np.array(_numbers(lists.scores.astype(np.float64).round(6)), np.bytes_)
        fits = self._fitting(lists, because, steps)
        if scores.itemsize > SCORE_BYTES:
            fits[:] = False
        if not np.count_nonzero(fits):
            return self._of_objects(lists)
        lines = self._lines(lists.items.reshape(-1), because.reshape(-1), steps.astype(np.int64))
        _set(lines, "score", scores.view(np.uint8).reshape(len(lines), -1))
        table = lines.reshape(len(fits), -1)
        found = [msgspec.Raw(b"[" + line.tobytes().translate(None, b"\0")[:-1] + b"]") for line in table]
        others = (~fits).nonzero()[0]
        if len(others):
            for place, one in zip(others.tolist(), self._of_objects(lists.some(others)), strict=True):
                found[place] = one
        return found

    def _of_objects(self, lists: Lists) -> list[msgspec.Raw]:
        return [msgspec.Raw(_encode(items)) for items in named(lists, self._names)]

    def _fitting(self, lists: Lists, because: NDArray[np.int32], steps: NDArray[np.float64]) -> Bools:
        """(B,) which lists can be written so."""
        batch = len(lists.items)
        if lists.sources or not lists.items.size:
            return np.zeros(batch, np.bool_)
        good = self._seen(lists.items) == FITS
        good &= (self._seen(because) == FITS) | (because < 0)
        good &= lists.propensity <= 0
        good &= (np.maximum.reduce(np.abs(steps), axis=0) <= LARGEST).reshape(good.shape)
        found: Bools = np.logical_and.reduce(good, axis=1)
        return found

    def _seen(self, items: NDArray[np.int32]) -> NDArray[np.int8]:
        """Whether the names of items (B, k) fit, UNSEEN for none (-1). Makes the texts of those not met yet."""
        size = len(self._names)
        if size >= len(self._fit):  # the last place is that of -1
            more = max(size + 1, 2 * len(self._fit), 1024) - len(self._fit)
            self._texts = np.concatenate([self._texts, np.zeros((more, NAME_BYTES), np.uint8)])
            self._fit = np.append(self._fit, np.zeros(more, np.int8))
        found = self._fit[items]
        if np.count_nonzero(found) == found.size:
            return found
        for item in set(items[found == UNSEEN].tolist()):
            name = self._names[item] if item > 0 else None
            if name is None:
                continue
            text = _encode(name)
            self._fit[item] = FITS if len(text) <= NAME_BYTES else TOO_LONG
            if len(text) <= NAME_BYTES:
                self._texts[item, : len(text)] = np.frombuffer(text, np.uint8)
        return self._fit[items]

    def _lines(self, items: NDArray[np.int32], because: NDArray[np.int32], steps: I64) -> U8:
        """A line (N, W) an item, without its score; `steps` (4, N) of its shares."""
        lines = np.empty((len(items), len(_LINE)), np.uint8)
        lines[:] = _LINE
        told = [because >= 0, *(steps[1:] >= LEAST)]
        told[2] |= steps[2] <= -LEAST
        _set(lines, "item", self._texts.take(items, 0))
        _set(lines, "because", self._texts.take(because, 0, mode="wrap"))
        texts = _SHARES.take(np.abs(steps), 0, mode="clip")
        for nth, kind in enumerate(KINDS):
            _set(lines, kind, texts[nth])
        lines[:, _places["sign"]] = np.where(steps[2] < 0, ord("-"), 0)
        if sum(map(np.count_nonzero, told)) < 4 * len(items):
            before = np.zeros(len(items), np.bool_)  # whether a reason stands before this one
            for kind, some in zip(KINDS, told, strict=True):
                start, end = _places[f"{kind} from"], _places[f"{kind} to"]
                lines[~some, start:end] = 0
                if kind != "after":
                    lines[~before, start] = 0
                before |= some
        return lines


def _numbers(values: NDArray[np.float64]) -> list[bytes]:
    return _encode(values.reshape(-1).tolist())[1:-1].split(b",")


def _set(lines: U8, place: str, texts: U8) -> None:
    start = _places[place]
    lines[:, start : start + texts.shape[1]] = texts


def _laid_out() -> tuple[U8, dict[str, int]]:
    """A line with room for its texts, and where each begins; of reasons, where they begin and end as well."""
    line, places = b'{"item":', {}

    def room(name: str, width: int) -> bytes:
        places[name] = len(line)
        return bytes(width)

    line += room("item", NAME_BYTES)
    line += b',"score":'
    line += room("score", SCORE_BYTES)
    line += b',"reasons":['
    for kind in KINDS:
        places[f"{kind} from"] = len(line)
        line += b"" if kind == "after" else b","
        line += f'{{"type":"{kind}","share":'.encode()
        if kind == "taste":
            line += room("sign", 1)
        line += room(kind, SHARE_BYTES)
        if kind == "after":
            line += b',"because":'
            line += room("because", NAME_BYTES)
        line += b"}"
        places[f"{kind} to"] = len(line)
    return np.frombuffer(line + b"]},", np.uint8), places


_encode = msgspec.json.Encoder().encode
KINDS = ("after", "history", "taste", "popularity")
LEAST = round(SMALLEST_SHARE * STEPS)
_LINE, _places = _laid_out()
_SHARES: U8 = (
    np.array([_encode(step / STEPS) for step in range(LARGEST + 1)], f"S{SHARE_BYTES}")
    .view(np.uint8)
    .reshape(LARGEST + 1, SHARE_BYTES)
)
