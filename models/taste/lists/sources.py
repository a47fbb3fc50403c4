"""Further sources of scores beside counts, taste and popularity: a sequence model, nearest readers. NumPy alone.

    score(i) = L0 + m * (beta * L1 + p * popularity + sum over sources s of w_s * S_s(i))

S_s should be of the order of 1 where a source is sure and 0 where it says nothing, so that a weight means about the
same for each of them; m is the user's largest L0, or 1. What a source gave is explained by its name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.taste.readers.users import UserRows

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
Bools = NDArray[np.bool_]


class Source(Protocol):
    """Scores for a batch of readers."""

    name: str
    """How its shares are called in reasons; one lower-case word."""

    def scores(self, users: UserRows, rows: I32, now_ms: int) -> F32:
        """(B, I) finite float32 by item index, for the readers by row (B,); `now_ms` is event time. I is the size of
        `users.items`. The array is the caller's. A function of the arguments and of what the source has learnt.
        """
        ...


@dataclass(frozen=True, slots=True)
class Weighted:
    """A source and what it counts. Raises ValueError for a weight that is not finite."""

    source: Source
    weight: float

    def __post_init__(self) -> None:
        if not np.isfinite(self.weight):
            raise ValueError(f"the weight of {self.source.name} must be finite, not {self.weight}")


@dataclass(frozen=True, slots=True)
class Parts:
    """What S sources add to the scores of B readers, weight and scale included."""

    names: tuple[str, ...] = ()
    scores: tuple[F32, ...] = ()  # S of (B, I)

    def and_one(self, name: str, scores: F32) -> "Parts":
        """With one more, last."""
        return Parts((*self.names, name), (*self.scores, scores))

    def of(self, items: I32) -> F32:
        """Their parts (B, k, S) of listed items (B, k); 0 at -1."""
        found = np.zeros((*items.shape, len(self.names)), np.float32)
        listed = np.maximum(items, 0)
        for nth, scores in enumerate(self.scores):
            found[..., nth] = np.take_along_axis(scores, listed, 1)
        found[items < 0] = 0
        return found


def parts(
    sources: Sequence[Weighted],
    users: UserRows,
    rows: I32,
    now_ms: int,
    scale: F32,
    anonymous: Bools | None = None,
) -> Parts:
    """What sources say, times weight and `scale` (B,). Of readers who are `anonymous` (B,) they say nothing. Raises
    ValueError where a source's array has another shape."""
    found = []
    factors = scale if anonymous is None else np.where(anonymous, np.float32(0), scale)
    for one in sources:
        scores = one.source.scores(users, rows, now_ms)
        if scores.shape != (len(rows), len(users.items)):
            raise ValueError(f"{one.source.name} gave scores of shape {scores.shape}")
        scores *= (np.float32(one.weight) * factors)[:, None]
        found.append(scores)
    return Parts(tuple(one.source.name for one in sources), tuple(found))
