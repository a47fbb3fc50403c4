"""What `undo` leaves of a reader's events, in a plain loop: the oracle of `models.taste.readers.undo`."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Left:
    """Indices into the events given."""

    counting: list[int] = field(default_factory=list)  # those that the sums hold
    ring: list[int] = field(default_factory=list)  # oldest first
    pairs: dict[int, int] = field(default_factory=dict)  # undo -> what it took back
    in_vain: list[int] = field(default_factory=list)


def left_of(events: Sequence[tuple[str, str]], ring: int) -> Left:
    """`events` are (item, kind) of one reader, in order."""
    left = Left()
    for n, (item, kind) in enumerate(events):
        if kind == "undo":
            found = [m for m in left.ring if events[m][0] == item]
            if not found:
                left.in_vain.append(n)
                continue
            left.pairs[n] = found[-1]
            left.ring.remove(found[-1])
            left.counting.remove(found[-1])
            continue
        left.counting.append(n)
        if kind != "impression":
            left.ring = [*left.ring, n][-ring:]
    return left
