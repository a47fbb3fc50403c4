"""Readers' histories, cut into what is trained on, what chooses the best network and what it is then scored on.

Events are sorted by reader, then by arrival. Whatever the cut, an event is predicted from its own reader's earlier
events alone. NumPy alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

TRAIN, VALIDATE, TEST = 0, 1, 2
SPLITS = ("leave-one-out", "time", "none", "all")


@dataclass(frozen=True, slots=True)
class Histories:
    """N positive events of R readers. Items are 0..V-1, -1 where the vocabulary has none."""

    items: I32  # (N,)
    at_ms: I64  # (N,)
    starts: I64  # (R + 1,)
    parts: I8  # (N,) of TRAIN, VALIDATE, TEST; in each reader's history they follow in this order

    def trained(self) -> I64:
        """How many events of each reader (R,) are trained on: the first ones."""
        sums = np.concatenate([[0], np.cumsum(self.parts == TRAIN)])
        found: I64 = sums[self.starts[1:]] - sums[self.starts[:-1]]
        return found

    def asked(self, part: int, most: int, rng: np.random.Generator) -> I64:
        """Events of a part that can be asked for, ascending: not their reader's first; of more than `most` a sample. An
        item that the vocabulary lacks is asked for as well: it is a miss."""
        first = np.zeros(len(self.items) + 1, np.bool_)
        first[self.starts] = True
        found = np.flatnonzero((self.parts == part) & ~first[:-1])
        return found if len(found) <= most else np.sort(rng.choice(found, most, replace=False))

    def before(self, events: I64, window: int) -> I32:
        """(E, window) the last items before each event, oldest first, -1 padded in front."""
        owner = np.searchsorted(self.starts, events, side="right") - 1
        at = events[:, None] + np.arange(-window, 0)
        held = at >= self.starts[owner][:, None]
        return np.where(held, self.items[np.maximum(at, 0)], np.int32(-1))


def cut(users: I64, at_ms: I64, split: str, shares: tuple[float, float] = (0.8, 0.1)) -> tuple[I64, I8]:
    """The order (N,) by reader, then arrival, of events in arrival order, and the part (N,) of each in that order.

    `leave-one-out`: a reader's last event is for the test, the one before for validation (readers with two or more; of
    two the first is trained on). `time`: the first share of all events, the next, the rest. `none`: `time` without a
    test. `all`: everything is trained on. Raises ValueError for another split, or shares that leave no training.
    """
    if split not in SPLITS:
        raise ValueError(f"{split}: it is {', '.join(SPLITS)}")
    if not (0 < shares[0] < 1 and 0 < shares[1] < 1 and sum(shares) <= 1 + 1e-9):
        raise ValueError("the shares of training and validation lie between 0 and 1, and so does their sum")
    order = np.argsort(users, kind="stable")
    parts = np.full(len(users), TRAIN, np.int8)
    if split == "all":
        return order, parts
    if split == "leave-one-out":
        counts = np.bincount(users)
        nth = np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts, counts)
        left = np.repeat(counts, counts) - 1 - nth
        parts[(left == 0) & (nth >= 1)] = TEST
        parts[(left == 1) & (nth >= 1)] = VALIDATE
        return order, parts
    train, validate = shares if split == "time" else (1 - shares[1], shares[1])
    place = order / max(len(users), 1)
    parts[place >= train] = VALIDATE
    if split == "time":
        parts[place >= train + validate] = TEST
    return order, parts


def windows(histories: Histories, length: int, rng: np.random.Generator, shuffle: float = 0.0) -> I32:
    """(M, length + 1) of what is trained on, in random order, -1 padded at the end. Each reader's events are cut anew
    each time, so that over the rounds every event stands at every place.

    `shuffle`: each reader's events change places each time, by fewer than a number that is drawn below it.
    """
    found: list[I32] = []
    for start, count in zip(histories.starts[:-1].tolist(), histories.trained().tolist(), strict=True):
        mine = histories.items[start : start + count]
        mine = mine[mine >= 0]
        if shuffle:
            apart = shuffle * rng.random()
            mine = mine[np.argsort(np.arange(len(mine)) + apart * rng.random(len(mine)), kind="stable")]
        found += _stretches(mine, length, int(rng.integers(length)) if len(mine) > length + 1 else 0)
    made = np.full((len(found), length + 1), -1, np.int32)
    for row, one in zip(made, found, strict=True):
        row[: len(one)] = one
    return made[rng.permutation(len(made))]


def _stretches(items: I32, length: int, shift: int) -> Iterator[I32]:
    """Windows that share one event with the next, so that each event but the first is asked for once."""
    for begin in range(-shift, len(items) - 1, length):
        stretch = items[max(begin, 0) : begin + length + 1]
        if len(stretch) >= 2:
            yield stretch
