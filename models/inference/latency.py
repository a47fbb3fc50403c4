"""How long a batch takes, learnt: seconds = a * cost + b for each class of lengths. Pure; bounded memory.

Sums that decay are kept, not the batches: about the last 50 count. A batch that took far longer than expected (a
pause of the machine, say) counts as a few times the expected, so that it cannot bend the line.
"""

from dataclasses import dataclass

DECAY = 0.98
_ENOUGH = 3.0  # batches before a line is believed
_MOST_TIMES = 4.0
_CLASSES = 24  # lengths double from one to the next; the last takes all that are longer


@dataclass(frozen=True, slots=True)
class Line:
    """`seconds_per_cost` and `seconds` a batch, neither below 0."""

    seconds_per_cost: float
    seconds: float

    def of(self, cost: float) -> float:
        """Seconds that a batch of this cost takes."""
        return self.seconds_per_cost * cost + self.seconds

    def cost_within(self, seconds: float) -> float:
        """The largest cost that takes no longer; below 0 where nothing does."""
        if self.seconds_per_cost <= 0:
            return float("inf") if seconds >= self.seconds else -1.0
        return (seconds - self.seconds) / self.seconds_per_cost


class _Fit:
    """Decayed sums of one class, and the line through them."""

    __slots__ = ("_sums", "line")

    def __init__(self) -> None:
        self._sums = (0.0, 0.0, 0.0, 0.0, 0.0)  # of 1, cost, seconds, cost^2, cost * seconds
        self.line: Line | None = None

    def add(self, cost: float, seconds: float) -> None:
        if self.line is not None:
            seconds = min(seconds, _MOST_TIMES * max(self.line.of(cost), 1e-6))
        n, x, y, xx, xy = self._sums
        self._sums = (
            n * DECAY + 1.0,
            x * DECAY + cost,
            y * DECAY + seconds,
            xx * DECAY + cost * cost,
            xy * DECAY + cost * seconds,
        )
        if self._sums[0] >= _ENOUGH * DECAY**_ENOUGH:
            self.line = _line(*self._sums)


def _line(n: float, x: float, y: float, xx: float, xy: float) -> Line:
    spread = xx / n - (x / n) ** 2
    if spread <= 1e-6 * xx / n:  # one cost only: all of it is said to grow with the cost
        return Line(y / x if x else 0.0, 0.0 if x else y / n)
    slope = (xy / n - x * y / n**2) / spread
    if slope <= 0:
        return Line(0.0, y / n)
    base = y / n - slope * x / n
    return Line(slope, base) if base >= 0 else Line(xy / xx, 0.0)


class Latency:
    """Of one task."""

    def __init__(self) -> None:
        self._all = _Fit()
        self._by_class = [_Fit() for _ in range(_CLASSES)]

    def observe(self, longest: int, cost: float, seconds: float) -> None:
        """A batch ran, its longest unit and its cost given. Leave out those that were repeated in parts."""
        for fit in (self._all, self._by_class[_class_of(longest)]):
            fit.add(cost, seconds)

    def line(self, longest: int) -> Line | None:
        """For batches of this longest unit; of all lengths where too few of these were seen; None at first."""
        return self._by_class[_class_of(longest)].line or self._all.line


def _class_of(longest: int) -> int:
    return min(max(longest, 0).bit_length(), _CLASSES - 1)
