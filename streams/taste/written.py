"""The items of lists as JSON: the bytes of `streams.taste.lists.named`, without its objects. Compiled.

Twenty items with eighty reasons cost a list more as objects than its ranking. A list with an explored item, or with a
number of more than fifteen digits, is made of objects as ever.
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled, part
from models.taste.lists.reasons import Lists
from streams.taste.lists import SMALLEST_SHARE, named

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_MET = -1  # as the length of a text: asked for once


class Writer:
    """Of the items of one index."""

    def __init__(self, names: Sequence[str | None]) -> None:
        """`names` by item, which become more."""
        self._names = names
        self._texts: U8 = np.zeros(1 << 16, np.uint8)  # of names, as JSON, one after another
        self._used = 0
        self._begins: I64 = np.zeros(0, np.int64)  # by item
        self._lengths: I64 = np.zeros(0, np.int64)  # 0: not met yet, or without a name
        self._longest = 0

    def items(self, lists: Lists) -> list[msgspec.Raw]:
        """The JSON array of each of B lists."""
        batch, k = lists.items.shape
        past, because = np.ascontiguousarray(lists.past), np.ascontiguousarray(lists.because)
        self._meet(lists.items, past)
        sources = [_encode(name) for name in lists.sources]
        ends = np.cumsum([0, *map(len, sources)])
        room = _OF_ITEM + 2 * self._longest + _OF_SOURCE * len(sources) + int(ends[-1])
        text, stops = np.empty(batch * (k * room + 2) + _ROOM, np.uint8), np.empty(batch, np.int64)
        _write(
            np.ascontiguousarray(lists.items), np.ascontiguousarray(lists.scores), np.ascontiguousarray(lists.layers),
            because, np.ascontiguousarray(lists.because_share), np.ascontiguousarray(lists.propensity), past,
            self._texts, self._begins, self._lengths, np.frombuffer(bytearray(b"".join(sources)), np.uint8), ends,
            SMALLEST_SHARE, text, stops,
        )  # fmt: skip
        found, start = [], 0
        whole = text[: int(stops[-1])].tobytes() if batch else b""
        for reader, stop in enumerate(stops.tolist()):
            found.append(msgspec.Raw(whole[start:stop]) if stop > start else self._of_objects(lists, reader))
            start = stop
        return found

    def _of_objects(self, lists: Lists, reader: int) -> msgspec.Raw:
        return msgspec.Raw(_encode(named(lists.some(np.array([reader])), self._names)[0]))

    def _meet(self, *items: I32) -> None:
        """Make the texts of names not met yet."""
        size = len(self._names)
        if size > len(self._lengths):
            more = np.zeros(max(size, 2 * len(self._lengths), 1024) - len(self._lengths), np.int64)
            self._begins, self._lengths = np.append(self._begins, more), np.append(self._lengths, more)
        for some in items:
            new = np.empty(some.size, np.int64)
            count = _unmet(some.reshape(-1), self._lengths, new)
            for item in new[:count].tolist():
                name = self._names[item] if item > 0 else None
                self._set(item, b"" if name is None else _encode(name))

    def _set(self, item: int, text: bytes) -> None:
        begin, self._used = self._used, self._used + len(text)
        if self._used > len(self._texts):
            self._texts = np.append(self._texts, np.zeros(self._used, np.uint8))
        self._texts[begin : self._used] = np.frombuffer(text, np.uint8)
        self._begins[item], self._lengths[item] = begin, len(text)
        self._longest = max(self._longest, len(text))


@compiled("int64(int32[::1], int64[::1], int64[::1])")
def _unmet(items: I32, lengths: I64, new: I64) -> int:
    """How many of the items have no text, in `new`, each once."""
    count = 0
    for item in items:
        if item >= 0 and lengths[item] == 0:
            lengths[item] = _MET
            new[count] = item
            count += 1
    return count


@compiled(
    "void(int32[:, ::1], float32[:, ::1], float32[:, :, ::1], int64[:, ::1], float32[:, ::1], float32[:, ::1], "
    "int32[:, ::1], uint8[::1], int64[::1], int64[::1], uint8[::1], int64[::1], float64, uint8[::1], int64[::1])"
)
def _write(
    items: I32, scores: F32, layers: F32, because: I64, shares: F32, propensity: F32,
    past: I32, texts: U8, begins: I64, lengths: I64, sources: U8, ends: I64, smallest: float, text: U8, stops: I64,
) -> None:  # fmt: skip
    """Lists behind each other in `text`, and where each stops: where it began, if it is to be made of objects."""
    at = 0
    for reader in range(len(items)):
        start = at
        at = _piece(text, at, _OPEN)
        for nth in range(items.shape[1]):
            item, score = items[reader, nth], scores[reader, nth]
            if item < 0:
                break
            millionths, place = np.rint(float(score) * 1e6), because[reader, nth]
            size = abs(score) if score != 0 else np.float32(1)
            if propensity[reader, nth] > 0 or not _fits(
                millionths, layers, reader, nth, size, shares[reader, nth]
            ):
                at = start
                break
            at = _piece(text, at, _ITEM if nth == 0 else _NEXT_ITEM)
            if lengths[item] > 0:
                at = _name(text, at, texts, begins[item], lengths[item])
            else:
                at = _piece(text, at, _NOTHING)
            at = _number(text, _piece(text, at, _SCORE), millionths, 6)
            first = _piece(text, at, _REASONS)
            at = first
            if place >= 0 and past[reader, place] >= 0:
                cause = past[reader, place]
                at = _after(text, at, shares[reader, nth], texts, begins[cause], lengths[cause])
            at = _layers(text, at, layers, reader, nth, size, shares[reader, nth], sources, ends, smallest)
            if at > first:
                at -= 1  # the comma behind the last reason
            at = _piece(text, at, _CLOSE_ITEM)
        if at > start:
            at = _piece(text, at, _CLOSE)
        stops[reader] = at


@part
def _fits(
    millionths: float, layers: F32, reader: int, nth: int, size: np.float32, strongest: np.float32
) -> bool:
    """Whether all numbers have few enough digits."""
    largest = float(abs(strongest))
    for layer in range(layers.shape[2]):
        largest = max(largest, float(abs(layers[reader, nth, layer] / size)) + float(abs(strongest)))
    return abs(millionths) < _MOST and largest * 1e4 < _MOST


@part
def _after(text: U8, at: int, share: np.float32, texts: U8, begin: int, length: int) -> int:
    """The strongest past item as a reason, a comma behind it."""
    at = _number(text, _piece(text, at, _AFTER), np.rint(float(share) * 1e4), 4)
    if length > 0:
        at = _name(text, _piece(text, at, _BECAUSE), texts, begin, length)
    return _piece(text, at, _END)


@part
def _layers(
    text: U8, at: int, layers: F32, reader: int, nth: int, size: np.float32, strongest: np.float32,
    sources: U8, ends: I64, smallest: float,
) -> int:  # fmt: skip
    """The other reasons: the rest of the history, taste, popularity and further sources."""
    for layer in range(layers.shape[2]):
        share = layers[reader, nth, layer] / size
        if layer == 0:
            share -= strongest
        steps = np.rint(float(share) * 1e4)
        if layer < 3:
            told = steps / 1e4 >= smallest or (layer == 1 and steps / 1e4 <= -smallest)
        else:
            told = abs(share) >= np.float32(smallest)
        if not told:
            continue
        if layer < 3:
            at = _piece(text, at, _LAYERS + layer)
        else:
            begin, end = ends[layer - 3], ends[layer - 2]
            at = _piece(text, _name(text, _piece(text, at, _TYPE), sources, begin, end - begin), _SHARE)
        at = _piece(text, _number(text, at, steps, 4), _END)
    return at


@part
def _piece(text: U8, at: int, which: int) -> int:
    """One of the pieces: all of its room, since that is one instruction; what follows is written over it."""
    first = np.uint64(at)  # unsigned: nobody asks whether a place is to be counted from behind
    for place in range(_ROOM):
        text[first + np.uint64(place)] = _PIECES[which, place]
    return at + int(_SIZES[which])


@part
def _name(text: U8, at: int, texts: U8, begin: int, size: int) -> int:
    first, start = np.uint64(at), np.uint64(begin)
    for place in range(size):
        text[first + np.uint64(place)] = texts[start + np.uint64(place)]
    return at + size


@part
def _number(text: U8, at: int, steps: float, places: int) -> int:
    """A whole number of steps of 10**-places as the shortest decimal, at least one figure on each side of the point."""
    if math.copysign(1.0, steps) < 0:
        text[at] = _MINUS
        at += 1
    count = int(abs(steps))
    if places == 6 and 0 < count < 10:  # below 0.00001
        text[at] = _ZERO + count
        return _piece(text, at + 1, _MILLIONTHS)
    whole = count // 10**places
    rest = count - whole * 10**places
    figures = 1
    while 10**figures <= whole:
        figures += 1
    for place in range(figures - 1, -1, -1):
        text[at + place] = _ZERO + whole % 10
        whole //= 10
    at += figures
    text[at] = _POINT
    while places > 1 and rest % 10 == 0:
        rest //= 10
        places -= 1
    for place in range(places, 0, -1):
        text[at + place] = _ZERO + rest % 10
        rest //= 10
    return at + 1 + places


_encode = msgspec.json.Encoder().encode
_MOST = 1e15
_MINUS, _POINT, _ZERO = b"-.0"
_TEXTS = (
    *(b"[", b"]", b'{"item":', b',{"item":', b'""', b',"score":', b',"reasons":[', b"]}", b"e-6"),
    *(b'{"type":', b',"share":', b',"because":', b"},"),
    *(f'{{"type":"{kind}","share":'.encode() for kind in ("history", "taste", "popularity", "after")),
)
_OPEN, _CLOSE, _ITEM, _NEXT_ITEM, _NOTHING, _SCORE, _REASONS, _CLOSE_ITEM, _MILLIONTHS = range(9)
_TYPE, _SHARE, _BECAUSE, _END, _LAYERS, _AFTER = 9, 10, 11, 12, 13, 16
_ROOM = 32
_SIZES: I64 = np.array([len(text) for text in _TEXTS])
_PIECES: U8 = np.array(_TEXTS, f"S{_ROOM}").view(np.uint8).reshape(-1, _ROOM)
_OF_ITEM = 400  # bytes of an item with its reasons, without names, at most
_OF_SOURCE = 64  # of a reason from a further source, without its name
