"""Events of a batch by reader: who has how many, and in which order a fold takes them. NumPy alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]

BLOCK = 128  # users whose sums (135 KB) stay in cache while their rounds go on
_HOT_COST = 3.0  # cost of a hot user's own pass, in rounds
ALL = slice(None)  # as they are


def repeats(row_of: I64, offsets: I64, order: I64) -> bool:
    """Whether a row's offsets do not ascend; `order` sorts rows and keeps the order of each one's events."""
    rows = row_of[order]
    same = rows[1:] == rows[:-1]
    if not np.count_nonzero(same):
        return False
    sorted_offsets = offsets[order]
    return bool((same & (sorted_offsets[1:] <= sorted_offsets[:-1])).any())


def latest(touched: list[I64], lasts: list[I64]) -> tuple[I64, I64]:
    """Rows of all chunks once, with the event of the latest chunk."""
    if not touched:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    if len(touched) == 1:
        return touched[0], lasts[0]
    rows, first = np.unique(np.concatenate(touched[::-1]), return_index=True)
    return rows, np.concatenate(lasts[::-1])[first]


@dataclass(frozen=True, slots=True)
class Run:
    """Events sorted by row: t distinct rows, where each one's events start, how many, and each event's owner. `once`:
    nobody has two, as in most batches of a steady stream."""

    rows: I64  # (t,)
    starts: I64  # (t,)
    counts: I64  # (t,)
    rank: I64  # (n,) index into rows
    once: bool

    @classmethod
    def of(cls, sorted_rows: I64) -> "Run":
        fresh = np.empty(len(sorted_rows), np.bool_)
        fresh[0] = True
        np.not_equal(sorted_rows[1:], sorted_rows[:-1], out=fresh[1:])
        if np.count_nonzero(fresh) == len(fresh):
            each = np.arange(len(sorted_rows))
            return cls(sorted_rows, each, np.ones(len(each), np.int64), each, True)
        starts = fresh.nonzero()[0]
        counts = np.empty_like(starts)
        counts[:-1], counts[-1] = starts[1:] - starts[:-1], len(sorted_rows) - starts[-1]
        return cls(sorted_rows[starts], starts, counts, np.cumsum(fresh) - 1, False)

    @property
    def last(self) -> I64:
        """(t,) each user's last event."""
        return self.starts if self.once else self.starts + self.counts - 1

    def hot_users(self) -> I64:
        """Users (indices into rows) for whom an own pass is cheaper than the rounds they would cause."""
        if self.once or int(self.counts.max()) <= _HOT_COST:
            return np.empty(0, np.int64)
        order = np.argsort(-self.counts, kind="stable")
        rounds = np.append(self.counts[order[:64]], 0)  # rounds left when the first i users are hot
        if len(order) > 64:
            rounds[64] = self.counts[order[64]]
        return order[: int(np.argmin(rounds + _HOT_COST * np.arange(len(rounds))))]

    def rounds(self, hot: I64) -> tuple[I64 | slice, I64 | slice, list[list[int]]]:
        """Events of the users not hot, in the order of their steps; the users, busiest first; sizes of steps.

        Users go in blocks of BLOCK, whose sums stay in the processor's cache through all their rounds.
        """
        if self.once:
            count = len(self.rows)
            return ALL, ALL, [[min(BLOCK, count - n)] for n in range(0, count, BLOCK)]
        counts = self.counts.copy()
        counts[hot] = 0
        users = np.argsort(-counts, kind="stable")[: len(counts) - len(hot)]
        place = np.full(len(counts), -1)
        place[users] = np.arange(len(users))
        mine = place[self.rank]
        events = np.flatnonzero(mine >= 0)
        if not len(events):
            return events, users, []
        mine = mine[events]
        nth = events - self.starts[self.rank[events]]
        most = int(counts[users[0]])
        step = (mine // BLOCK) * most + nth
        order = np.argsort(step * BLOCK + mine % BLOCK)
        sizes = np.bincount(step, minlength=most * (-(-len(users) // BLOCK)))
        blocks = [row[: int(np.count_nonzero(row))].tolist() for row in sizes.reshape(-1, most)]
        return events[order], users, blocks
