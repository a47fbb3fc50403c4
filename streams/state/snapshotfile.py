"""One partition's rows in one file: written whole under another name, then renamed; read only when its checksum fits.

    magic 8 bytes · head length u4 · head (JSON: `Head`)
    blocks: rows u4 · key bytes u4 · value bytes u4 · key lengths u4[rows] · value lengths u4[rows] · keys · values
    a block of 0 rows · XXH3-128 of everything before it, 16 bytes

Little-endian. The rows are those of a changelog up to an offset, as `Image` keeps them. Blocking; knows nothing of
Kafka, asyncio or what a row means.
"""

import contextlib
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec
import xxhash

MAGIC = b"HRSNAP\0\1"  # the last byte is the version of this layout
DIGEST_BYTES = 16
BLOCK_ROWS = 1000
PIECE_BYTES = 1 << 20
TEMPORARY = ".tmp"

_BLOCK = struct.Struct("<III")
Rows = tuple[list[bytes], list[bytes]]
FenceOf = Callable[[bytes], int]
"""How far a row has come: of two rows of one owner the one with the higher fence stands (`models.taste.fences`)."""


class Unusable(Exception):
    """The file cannot be used; the message says why."""


class Stopped(Exception):
    """The writer was told to stop."""


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose rows these are, and which part of the changelog they hold."""

    layout: str  # of the rows: a name, its version, a hash of its settings
    cluster: str
    topic: str  # with its prefix
    partition: int
    offset: int  # the first one that is not covered
    newest_ms: int  # timestamp of the newest record covered
    read_at_ms: int  # wall clock before the log was read to `offset`


class Image:
    """What of a log must be kept so that reading it gives the same state: per key the row that stands, and the last
    one where that is another. Tombstones void what was before them.
    """

    def __init__(self, fence_of: FenceOf) -> None:
        self._fence_of = fence_of
        self._rows: dict[bytes, list[bytes]] = {}
        self._voided: set[bytes] = set()
        self.size_bytes = 0  # of what has been added

    def add(self, keys: Sequence[bytes], values: Sequence[bytes | None]) -> None:
        """Records in the order of the log."""
        for key, value in zip(keys, values, strict=True):
            if not value:
                self._rows.pop(key, None)
                self._voided.add(key)
                self.size_bytes += len(key)
            else:
                self._rows[key] = self._with(self._rows.get(key), value)
                self.size_bytes += len(key) + len(value)

    def over(self, older: Iterable[Rows]) -> Iterator[Rows]:
        """All rows of an older image and this one; a key's rows are never parted. Empties this one."""
        for keys, values in older:
            place = 0
            while place < len(keys):
                key, held = keys[place], [values[place]]
                while place + 1 < len(keys) and keys[place + 1] == key:
                    place += 1
                    held.append(values[place])
                place += 1
                if key in self._rows and key not in self._voided:
                    for value in self._rows[key]:
                        held = self._with(held, value)
                    self._rows[key] = held
            kept = [n for n, key in enumerate(keys) if key not in self._rows and key not in self._voided]
            yield [keys[n] for n in kept], [values[n] for n in kept]
        fresh, self._rows, self._voided, self.size_bytes = self._rows, {}, set(), 0
        keys, values = [], []
        for key, held in fresh.items():
            keys += [key] * len(held)
            values += held
            if len(keys) >= BLOCK_ROWS:
                yield keys, values
                keys, values = [], []
        yield keys, values

    def _with(self, held: list[bytes] | None, value: bytes) -> list[bytes]:
        if held is None or self._fence_of(value) >= self._fence_of(held[0]):
            return [value]
        return [held[0], value]


def write(path: Path, head: Head, rows: Iterable[Rows], stopping: Callable[[], bool]) -> int:
    """Replace the file at `path` at once or not at all; its size in bytes. Each part of `rows` stays in one block.

    Raises OSError (a full disk, no rights), Stopped when `stopping` says so; nothing is left behind then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f"{path.name}.*{TEMPORARY}"):  # of a process that was killed
        leftover.unlink(missing_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        mine = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # personal data
        with os.fdopen(mine, "wb") as file:
            size_bytes = _write_all(file, head, rows, stopping)
            file.flush()
            os.fsync(file.fileno())
        if stopping():
            raise Stopped
        temporary.replace(path)
        _sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    return size_bytes


def _write_all(file: BinaryIO, head: Head, rows: Iterable[Rows], stopping: Callable[[], bool]) -> int:
    digest, size_bytes = xxhash.xxh3_128(), 0

    def put(part: bytes) -> None:
        nonlocal size_bytes
        digest.update(part)
        file.write(part)
        size_bytes += len(part)

    encoded = msgspec.json.encode(head)
    put(MAGIC + len(encoded).to_bytes(4, "little") + encoded)
    keys: list[bytes] = []
    values: list[bytes] = []
    for more_keys, more_values in rows:
        if stopping():
            raise Stopped
        keys += more_keys
        values += more_values
        if len(keys) >= BLOCK_ROWS:
            put(_block(keys, values))
            keys, values = [], []
    if keys:
        put(_block(keys, values))
    put(_BLOCK.pack(0, 0, 0))
    file.write(digest.digest())
    return size_bytes + DIGEST_BYTES


def _block(keys: Sequence[bytes], values: Sequence[bytes]) -> bytes:
    lengths = struct.pack(f"<{2 * len(keys)}I", *map(len, keys), *map(len, values))
    all_keys, all_values = b"".join(keys), b"".join(values)
    return _BLOCK.pack(len(keys), len(all_keys), len(all_values)) + lengths + all_keys + all_values


def _sync_folder(folder: Path) -> None:
    """The new name too must survive a power cut."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


class Snapshot:
    """A file whose checksum fits. Close it, or use it in a `with`."""

    def __init__(self, path: Path) -> None:
        """Reads it all once. Raises Unusable; FileNotFoundError when there is none; OSError."""
        self._file = path.open("rb")
        try:
            self.size_bytes = self._check()
            self.head, self._begin = self._read_head()
        except BaseException:
            self._file.close()
            raise

    def _check(self) -> int:
        size = os.fstat(self._file.fileno()).st_size
        if self._file.read(len(MAGIC)) != MAGIC:
            raise Unusable("it is not a snapshot of this version")
        digest, left = xxhash.xxh3_128(MAGIC), size - len(MAGIC) - DIGEST_BYTES
        while left > 0:
            piece = self._file.read(min(left, PIECE_BYTES))
            if not piece:
                break
            digest.update(piece)
            left -= len(piece)
        if left or self._file.read(DIGEST_BYTES + 1) != digest.digest():
            raise Unusable("its checksum does not fit: it is damaged")
        return size

    def _read_head(self) -> tuple[Head, int]:
        self._file.seek(len(MAGIC))
        length = int.from_bytes(self._file.read(4), "little")
        try:
            return msgspec.json.decode(self._file.read(length), type=Head), self._file.tell()
        except msgspec.MsgspecError as error:
            raise Unusable(f"its head cannot be read: {error}") from error

    def blocks(self) -> Iterator[Rows]:
        """All rows, a block at a time."""
        self._file.seek(self._begin)
        while True:
            rows, key_bytes, value_bytes = _BLOCK.unpack(self._file.read(_BLOCK.size))
            if not rows:
                return
            lengths = struct.unpack(f"<{2 * rows}I", self._file.read(8 * rows))
            keys = _cut(self._file.read(key_bytes), lengths[:rows])
            yield keys, _cut(self._file.read(value_bytes), lengths[rows:])

    @property
    def read_bytes(self) -> int:
        """How far `blocks` has come."""
        return self._file.tell()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "Snapshot":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _cut(data: bytes, lengths: Sequence[int]) -> list[bytes]:
    parts, start = [], 0
    for length in lengths:
        parts.append(data[start : start + length])
        start += length
    return parts
