"""Which events are scored, and what is learnt when: the protocols. NumPy alone.

`fives`       ratings of 5 alone; all items except those the user has had; scored from 30 % of the stream on, a user's
              first event never (Vinagre, Jorge, Gama 2014)
`all`         every positive event; otherwise the same, from 20 % on
`next-click`  each click that is not the first of its visit, from 20 % on; repeats may be right (nothing is taken out),
              or with `new_only` only items new to the visit are scored, its own items taken out
`leave-one-out`  each user's last event, after everything else: others' later events are in the item tables, so this
              serves to compare with papers alone. The event before is followed but not learnt from

In all of them a repeat of an item that is taken out cannot be scored; `Plan.repeats_left_out` counts these.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from models.evaluate.recording import Recording

Bools = NDArray[np.bool_]
I64 = NDArray[np.int64]

Protocol = Literal["fives", "all", "next-click", "leave-one-out"]
PROTOCOLS: tuple[str, ...] = get_args(Protocol)

FROM: dict[str, float] = {"fives": 0.3, "all": 0.2, "next-click": 0.2, "leave-one-out": 0.0}
"""Share of the stream before the first scored event."""
TOP: dict[str, int] = {"fives": 10, "all": 10, "next-click": 20, "leave-one-out": 10}
"""K unless given."""
FRESHNESS_FROM = 0.8


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens with each of n events."""

    asked: Bools  # (n,) scored, before anything is learnt of it
    learnt: Bools  # (n,) taken by what all readers share
    followed: Bools  # (n,) taken by the reader's own state
    own_out: bool  # the reader's own items are taken out of lists and ranks
    at_end: bool  # scored after all else, not in between
    first_events_left_out: int  # of what could have been scored by its place in the stream
    repeats_left_out: int


def plan(
    recording: Recording,
    protocol: Protocol,
    new_only: bool = False,
    trained: int = 0,
    share: float | None = None,
) -> Plan:
    """The plan for a recording whose first `trained` events are for learning alone. With these, scoring starts at once;
    else after the protocol's share of the stream, or the one given.
    """
    n = len(recording)
    everything = np.ones(n, np.bool_)
    own_out = protocol != "next-click" or new_only
    if protocol == "leave-one-out":
        return _leave_one_out(recording, trained)
    share = (0.0 if trained else FROM[protocol]) if share is None else share
    candidates = recording.positive & (np.arange(n) >= trained + int(share * (n - trained)))
    first = recording.nth == 0
    repeats = recording.repeats() if own_out else np.zeros(n, np.bool_)
    return Plan(
        asked=candidates & ~first & ~repeats,
        learnt=everything,
        followed=everything,
        own_out=own_out,
        at_end=False,
        first_events_left_out=int(np.count_nonzero(candidates & first)),
        repeats_left_out=int(np.count_nonzero(candidates & repeats)),
    )


def _leave_one_out(recording: Recording, trained: int) -> Plan:
    """The last positive event of each user with two or more is asked; the one before is followed alone."""
    n = len(recording)
    left = recording.positive.copy()
    left[:trained] = False
    counts = np.bincount(
        recording.users[recording.positive], minlength=int(recording.users.max(initial=-1)) + 1
    )
    place = counts[recording.users] - 1 - recording.nth  # 0 for the last positive event
    last = left & (place == 0)
    later = np.zeros(n, np.bool_)  # other kinds after the last positive event must not be known either
    later[~recording.positive] = place[~recording.positive] < 0
    repeats = recording.repeats()
    first = recording.nth == 0
    known = ~last & ~(later & (np.arange(n) >= trained))
    return Plan(
        asked=last & ~first & ~repeats,
        learnt=known & ~(left & (place == 1)),
        followed=known,
        own_out=True,
        at_end=True,
        first_events_left_out=int(np.count_nonzero(last & first)),
        repeats_left_out=int(np.count_nonzero(last & repeats)),
    )
