"""The only importer of `time`. Everything else is handed a clock, so that tests can hand it another."""

import time
from typing import Protocol


class Clock(Protocol):
    """What code that measures or stamps is given."""

    def monotonic_s(self) -> float:
        """Seconds that never go back; for durations and deadlines."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since 1970 UTC; for stamps on events."""
        ...


class SystemClock:
    """The machine's clocks."""

    def monotonic_s(self) -> float:
        return time.monotonic()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000
