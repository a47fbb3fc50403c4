"""Which offset of one partition may be committed: the end of the contiguous prefix of finished batches.

A queue of batches in the order they were read. Batches finish in any order; the committable offset moves only
over a finished front. Offsets inside and between batches may have gaps (compaction, transaction markers):
only the order of batches counts, so gaps are harmless, and memory is one entry a batch in flight.

Pure: no clock, no broker. Nothing here is safe across threads; one event loop owns it.
"""

from collections import deque
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Entry:
    """One batch in flight: offsets `first`..`next` (exclusive), `cost_bytes` for flow control."""

    first: int
    next: int
    cost_bytes: int
    sent: bool = False  # its effects are on their way
    done: bool = False
    lost: bool = False  # the partition was revoked or rewound before the batch finished


class Ledger:
    """Batches in flight of one partition.

    Invariants: entries are in ascending, non-overlapping order of offsets; `committable` never decreases and never
    passes the first entry that is not done.
    """

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque()
        self._committable: int | None = None
        self.in_flight = 0
        self.in_flight_bytes = 0

    def append(self, first: int, next_offset: int, cost_bytes: int) -> Entry:
        """Note a batch that was read. Raises ValueError when it does not follow the last one."""
        if next_offset <= first:
            raise ValueError(f"an empty batch: {first}..{next_offset}")
        floor = self._entries[-1].next if self._entries else self._committable
        if floor is not None and first < floor:
            raise ValueError(f"batch {first}..{next_offset} does not follow {floor}")
        entry = Entry(first, next_offset, cost_bytes)
        self._entries.append(entry)
        self.in_flight += 1
        self.in_flight_bytes += cost_bytes
        return entry

    def finish(self, entry: Entry) -> bool:
        """Note that a batch's effects are durable. False for a lost batch: it must not move the offset."""
        if entry.lost or entry.done:
            return False
        entry.done = True
        self.in_flight -= 1
        self.in_flight_bytes -= entry.cost_bytes
        while self._entries and self._entries[0].done:
            self._committable = self._entries.popleft().next
        return True

    @property
    def committable(self) -> int | None:
        """The offset to commit (next to be read after a restart), or None while nothing has finished."""
        return self._committable

    @property
    def oldest(self) -> int | None:
        """The first offset in flight, or None."""
        return self._entries[0].first if self._entries else None

    @property
    def unfinished(self) -> list[Entry]:
        """Batches in flight, in order."""
        return [entry for entry in self._entries if not entry.done]

    def rewind(self, keep_committable: bool = True) -> list[Entry]:
        """Forget what is not done (failed group, revoke). Unfinished batches are marked lost and returned. What was
        committable stays so, and is where to read on: its effects are durable, and perhaps nothing will ever come
        that would move the offset again. Not kept where the group says from where to read on (exactly-once)."""
        lost = self.unfinished
        for entry in lost:
            entry.lost = True
        self._entries.clear()
        if not keep_committable:
            self._committable = None
        self.in_flight = 0
        self.in_flight_bytes = 0
        return lost
