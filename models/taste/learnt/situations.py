"""In what situation a reader chooses: how much they have had, and how long ago the last of it was. Pure.

Bins of a recorded stream's two quantities, by which the weights of a blend may differ (`models.taste.learnt.blend`).
"""

from bisect import bisect

HAD = (1, 2, 3, 5, 15, 40, 100)
"""Events before: the bounds of none, one, two, to 4, to 14, to 39, to 99, more."""
GAP_S = (1.0, 11.0, 61.0, 601.0, 3601.0)
"""Seconds since the last: the bounds of the same second, to 10 s, to a minute, to ten, to an hour, longer."""
SITUATIONS = len(HAD) + 1 + len(GAP_S) + 1


def situations(had: int, gap_s: float) -> tuple[int, int]:
    """Two of 0..SITUATIONS-1, for a reader of `had` events whose last was `gap_s` ago (below 0 counts as now)."""
    return bisect(HAD, had), len(HAD) + 1 + bisect(GAP_S, gap_s)
