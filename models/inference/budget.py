"""What one forward of a task may cost. Pure."""

_GROW_AFTER_BATCHES = 100
_GROW = 1.05
_NEVER = float("inf")


class Budget:
    """Halved when the device runs out of memory; grows back slowly."""

    def __init__(self, batch_cost: int, max_units: int) -> None:
        if batch_cost < 1 or max_units < 1:
            raise ValueError(f"a batch of cost {batch_cost} and {max_units} units holds nothing")
        self.max_units = max_units
        self.batch_cost = batch_cost
        self._full_cost = batch_cost
        self._clean = 0

    def fits(self, longest: int, cost: float = _NEVER) -> int:
        """How many units of this length one batch of at most `cost` may have; 1 for what is over it alone."""
        return max(1, min(self.max_units, int(min(self.batch_cost, cost)) // max(1, longest)))

    def out_of_memory(self) -> None:
        """Halve."""
        self.batch_cost = max(1, self.batch_cost // 2)
        self._clean = 0

    def clean(self) -> None:
        """Count a batch that fitted: after 100 of them grow by 5 %, up to where it began."""
        self._clean += 1
        if self._clean >= _GROW_AFTER_BATCHES and self.batch_cost < self._full_cost:
            self.batch_cost = min(self._full_cost, max(self.batch_cost + 1, int(self.batch_cost * _GROW)))
            self._clean = 0
