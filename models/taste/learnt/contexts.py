"""What directly followed the last items of a history: by the last, the one before, and both. NumPy alone.

    next(i)  = n(last, i) / (1 + n(last))        lately(i) = the same, what is older fading by FADE an event
    skip(i)  = n2(last but one, i) / (1 + n2)    pair(i)   = n(last but one, last; i) / (1 + n(last but one, last))

Markov chains of order 1 and 2 over the events in their order; whoever repeats an item does not follow it. Bounded:
followers of a context, and pairs (the one that was met longest ago leaves).
"""

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

FADE = 0.98
KEEP = 200  # followers of a context; pruned at twice as many
MAX_PAIRS = 200_000
# Measured: two tables of a few entries, and an entry of a larger one.
_CONTEXT_BYTES, _FOLLOWER_BYTES = 330, 90
NAMES = ("next", "lately", "skip", "pair")


class _Counts:
    """context -> follower -> how often; the total of a context is kept under -1."""

    def __init__(self, max_contexts: int, fade: float = 1.0) -> None:
        self._max, self._fade = max_contexts, fade
        self._rows: dict[tuple[int, ...], dict[int, float]] = {}
        self._held = 0  # followers, of all contexts

    def learn(self, context: tuple[int, ...], item: int) -> None:
        row = self._rows.pop(context, None)
        row = {-1: 0.0} if row is None else row
        self._rows[context] = row  # the one met last
        if self._fade < 1:
            for follower in row:
                row[follower] *= self._fade
        self._held += item not in row
        row[item] = row.get(item, 0.0) + 1
        row[-1] += 1
        if len(row) > 2 * KEEP:
            best = sorted(row, key=lambda follower: row[follower], reverse=True)[: KEEP + 1]
            self._rows[context] = {follower: row[follower] for follower in best}
            self._held -= len(row) - len(best)
        if len(self._rows) > self._max:
            self._held -= len(self._rows.pop(next(iter(self._rows)))) - 1

    def bytes_used(self) -> int:
        """About: what Python holds for a context and for a follower."""
        return _CONTEXT_BYTES * len(self._rows) + _FOLLOWER_BYTES * self._held

    def write(self, context: tuple[int, ...], found: F32) -> None:
        row = self._rows.get(context)
        if row is None:
            return
        items = np.fromiter(row.keys(), np.int64, len(row))
        counts = np.fromiter(row.values(), np.float64, len(row))
        known = (items >= 0) & (items < len(found))
        found[items[known]] = counts[known] / (1 + row[-1])


class Contexts:
    """Not thread-safe."""

    def __init__(self, max_items: int) -> None:
        self._next, self._lately = _Counts(max_items), _Counts(max_items, FADE)
        self._skip, self._pair = _Counts(max_items), _Counts(MAX_PAIRS)

    def learn(self, history: I32, item: int) -> None:
        """A reader with this history, oldest first, came to `item`."""
        if not len(history):
            return
        last = int(history[-1])
        if item != last:
            self._next.learn((last,), item)
        self._lately.learn((last,), item)
        if len(history) > 1:
            before = int(history[-2])
            self._skip.learn((before,), item)
            self._pair.learn((before, last), item)

    def bytes_used(self) -> int:
        """About."""
        return sum(one.bytes_used() for one in (self._next, self._lately, self._skip, self._pair))

    def scores(self, history: I32, size: int) -> F32:
        """(4, size) in the order of NAMES."""
        found = np.zeros((len(NAMES), size), np.float32)
        if len(history):
            last = int(history[-1])
            self._next.write((last,), found[0])
            self._lately.write((last,), found[1])
        if len(history) > 1:
            before = int(history[-2])
            self._skip.write((before,), found[2])
            self._pair.write((before, last), found[3])
        return found
