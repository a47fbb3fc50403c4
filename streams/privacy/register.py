"""Who was forgotten or wants no profile, a partition: by a hash, since a name kept to be forgotten is not forgotten.

A row of the register lies in the readers' changelog under a key that no name can have (its first byte occurs in no
UTF-8 text): version u1 · 0 u4 · fence i8 · forgot i8 · until_ms i8 · at_ms i8 · opted_out u1, little-endian. The fence
stands where a reader's row has it, so that snapshots and recovery treat both alike.

Whether a click is dropped follows from the click and the row alone (its offset is not beyond `forgot`, or its record's
time is before `until_ms`), never from when a row is removed: a row goes only when no record from before `until_ms` can
be in the log any more. So it does not matter how often, and by whom, a log is read.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

from models.errors import BadInput
from streams.effects import Emit
from streams.topology.topics import DAY_MS, TASTE_CHANGELOG

MARK = b"\xff"
HASH_BYTES = 16
VERSION = 0xF0
CLICKS_KEPT_MS = 8 * DAY_MS  # records of `clicks` are kept 7 days
_ROW = struct.Struct("<BIqqqqB")


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of one hash."""

    fence: int  # offset of the last order
    forgot: int = -1  # offset of the last order to forget
    until_ms: int = -1  # clicks whose record is older are dropped
    at_ms: int = 0  # time of the last order's record
    opted_out: bool = False

    def encode(self) -> bytes:
        return _ROW.pack(VERSION, 0, self.fence, self.forgot, self.until_ms, self.at_ms, self.opted_out)

    @classmethod
    def decode(cls, value: bytes) -> "Row":
        """Raises BadInput("state_layout")."""
        if len(value) != _ROW.size or value[0] != VERSION:
            raise BadInput("state_layout", f"a row of the privacy register has {len(value)} bytes")
        _, _, fence, forgot, until_ms, at_ms, opted_out = _ROW.unpack(value)
        return cls(fence, forgot, until_ms, at_ms, bool(opted_out))

    def outlived(self, now_ms: int) -> bool:
        """Whether no record that it concerns can be in the log any more."""
        return not self.opted_out and now_ms > max(self.at_ms, self.until_ms) + CLICKS_KEPT_MS


class Register:
    """The rows of every partition that is open. Not thread-safe."""

    def __init__(self, key: bytes) -> None:
        """`key` makes the hashes useless to who has not got it; empty: none."""
        self._key = key
        self._rows: dict[int, dict[bytes, Row]] = {}
        self._opted_out: dict[int, set[str]] = {}  # names in use, known once their hash was looked up
        self._swept_ms: dict[int, int] = {}

    def hash_of(self, user: str) -> bytes:
        """The key of the reader's row in the changelog."""
        digest = blake2b(user.encode(), digest_size=HASH_BYTES, key=self._key, person=b"headrace-privacy")
        return MARK + digest.digest()

    def drop(self, partition: int) -> None:
        """Forget a partition."""
        for held in (self._rows, self._opted_out, self._swept_ms):
            held.pop(partition, None)

    def empty(self, partition: int) -> bool:
        """Whether nobody of the partition is in it."""
        return not self._rows.get(partition)

    def latest_forgot(self, partition: int) -> int:
        """Offset of the last order to forget anybody of the partition, or -1."""
        return max((row.forgot for row in self._rows.get(partition, {}).values()), default=-1)

    def row(self, partition: int, user: str) -> Row | None:
        """A reader's row. One who wants no profile is known by name from now on."""
        rows = self._rows.get(partition)
        found = rows.get(self.hash_of(user)) if rows else None
        if found is not None and found.opted_out:
            self._opted_out.setdefault(partition, set()).add(user)
        return found

    def wants_no_profile(self, partition: int) -> set[str]:
        """Names of those readers with state who want none."""
        return self._opted_out.get(partition, set())

    @property
    def anybody_without_profile(self) -> bool:
        """Whether there is a name in `wants_no_profile` of any partition."""
        return any(self._opted_out.values())

    def lift(self, partition: int, user: str) -> None:
        """The reader's block is over: as if a row of state were there, which the next commit writes."""
        key = self.hash_of(user)
        self._rows[partition][key] = replace(self._rows[partition][key], until_ms=-1)

    def put(self, partition: int, user: str, row: Row) -> bytes:
        """Set a reader's row; returns its key."""
        key = self.hash_of(user)
        self._rows.setdefault(partition, {})[key] = row
        names = self._opted_out.setdefault(partition, set())
        names.discard(user)
        if row.opted_out:
            names.add(user)
        return key

    def ordered(
        self, partition: int, user: str, kind: str, offset: int, at_ms: int, until_ms: int, has_state: bool
    ) -> Row:
        """The reader's row after an order; `has_state`: whether there is a row of state, which no blocked one has.

        Whoever is let in again without state lost all clicks up to the order: a replay must not let them in late.
        """
        row = self.row(partition, user) or Row(-1)
        if kind == "forget":
            return replace(row, fence=offset, forgot=offset, until_ms=until_ms, at_ms=at_ms)
        if kind == "opt_out":
            until_ms = -1 if has_state else row.until_ms
            return replace(row, fence=offset, opted_out=True, until_ms=until_ms, at_ms=at_ms)
        forgot = offset if row.forgot >= 0 and not has_state else row.forgot
        return replace(row, fence=offset, forgot=forgot, opted_out=False, until_ms=-1, at_ms=at_ms)

    def load(
        self, partition: int, keys: Sequence[bytes], values: Sequence[bytes | None]
    ) -> tuple[Sequence[bytes], Sequence[bytes | None]]:
        """Take the register's rows out of records of the changelog, in their order; returns the others. Of two rows of
        one hash that with the higher fence stands. Raises BadInput."""
        if MARK not in b"".join(keys):  # no text has that byte
            return keys, values
        rows = self._rows.setdefault(partition, {})
        rest: list[int] = []
        for place, (key, value) in enumerate(zip(keys, values, strict=True)):
            if key[:1] != MARK:
                rest.append(place)
            elif not value:
                rows.pop(key, None)
            else:
                row = Row.decode(bytes(value))
                held = rows.get(key)
                if held is None or row.fence >= held.fence:
                    rows[key] = row
        return [keys[place] for place in rest], [values[place] for place in rest]

    def sweep(self, partition: int, now_ms: int) -> Emit | None:
        """Remove rows that have outlived their use, at most once an hour; the tombstones."""
        if now_ms - self._swept_ms.get(partition, 0) < DAY_MS // 24:
            return None
        self._swept_ms[partition] = now_ms
        rows = self._rows.get(partition, {})
        gone = [key for key, row in rows.items() if row.outlived(now_ms)]
        for key in gone:
            del rows[key]
        return Emit(TASTE_CHANGELOG, partition, gone, [None] * len(gone)) if gone else None
