"""What a list is asked for: by whom, and through which stages. NumPy alone."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.taste.lists.filters import Wishes
from models.taste.lists.rank import RankSettings

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
I32 = NDArray[np.int32]
Bools = NDArray[np.bool_]

Diversity = Literal["none", "mmr", "spread", "expected", "dpp", "calibration"]
Alike = Literal["readers", "topics", "both"]


@dataclass(frozen=True, slots=True)
class ListSettings:
    """Which stages a list passes, and how. The default is the k best with author decay."""

    rank: RankSettings = field(default_factory=RankSettings)
    candidates: int = 100  # M: what the stages after the filters look at, where one is on
    author_decay: float = 0.5  # D; 1: none
    author_floor: float = 0.25  # F
    author_most: int = 0  # items of an author in ten places; 0: no limit
    diversity: Diversity = "none"
    theta: float = 0.8  # of mmr, spread, expected and dpp: 1 is relevance alone
    alike: Alike = "readers"  # to these: who came to both items, what both are about, or the mean of the two
    calibration: float = 0.5  # weight of calibration: 0 is relevance alone
    explore_below: float = 0.0  # exposures under which an item may be drawn; 0: no exploration
    explore_place: int = 10  # counted from 1; the last one of a shorter list
    ctr0: float = 0.05  # prior rate of clicks, in (0, 1]
    own_first: bool = (
        False  # what the reader had leads, the latest first; takes effect where `rank.repeat` is on
    )
    max_age_ms: int = 0  # 0: no bound
    blocked_authors: tuple[str, ...] = ()  # for everybody
    only_catalogued: bool = False  # list no item that the catalogue does not describe
    blend: bool = False  # candidates are scored anew by what was learnt, where there is such a thing
    order: bool = False  # the same by everything that was learnt, `models.taste.lists.ordering`


@dataclass(frozen=True, slots=True)
class Requests:
    """Who asks for a list."""

    rows: I32  # (B,) of the readers
    draws: F64  # (B,) in [0, 1), see `models.taste.lists.explore.draws`; whatever they are where nothing is explored
    anonymous: Bools | None = None  # (B,) profile off: nothing of these readers is looked at
    wishes: Wishes = field(default_factory=Wishes)
    asked_ms: I64 | None = None  # (B,) when each asks; None: at the time of the reader's newest choice

    def part(self, start: int, stop: int) -> "Requests":
        """The requests start..stop."""
        if not start and stop >= len(self.rows):
            return self
        some = self.anonymous[start:stop] if self.anonymous is not None else None
        asked = self.asked_ms[start:stop] if self.asked_ms is not None else None
        wishes = self.wishes.part(start, stop)
        return Requests(self.rows[start:stop], self.draws[start:stop], some, wishes, asked)
