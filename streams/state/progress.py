"""How far the recovery of each partition is: in the log at most every few seconds, in a gauge, and for `/readyz`.

Positions are offsets: a compacted changelog holds fewer records than its offsets span, so nearing the end may be
quicker than it looks, never slower.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from streams.clock import Clock

log = logging.getLogger(__name__)

LOG_EVERY_S = 5.0

Measure = Callable[[int, int | None], None]
"""Told a partition and how many records it has still to read back; None when the partition has left."""


@dataclass(slots=True)
class Recovery:
    """One partition being read back."""

    partition: int
    done: int = 0  # offsets passed
    of: int = 0  # offsets to pass; 0 until known


class Recoveries:
    """Those of one agent, by partition."""

    def __init__(self, agent: str, clock: Clock, measure: Measure) -> None:
        self._agent = agent
        self._clock = clock
        self._measure = measure
        self._running: dict[int, Recovery] = {}

    def begin(self, partition: int) -> Callable[[int, int], None]:
        """A partition's recovery begins: to be told (offsets passed, of how many) as it goes.

        Once the partition has left, what is told of it changes nothing: a recovery that was overtaken ends by itself.
        """
        recovery = self._running[partition] = Recovery(partition)
        began_s = said_s = self._clock.monotonic_s()

        def tell(done: int, of: int) -> None:
            nonlocal said_s
            if self._running.get(partition) is not recovery:
                return
            recovery.done, recovery.of = done, of
            self._measure(partition, of - done)
            now_s = self._clock.monotonic_s()
            if now_s - said_s >= LOG_EVERY_S:
                said_s = now_s
                log.info(
                    "%s: partition %d: %s of %s records read back, %.0f s so far",
                    self._agent,
                    partition,
                    f"{done:,}",
                    f"{of:,}",
                    now_s - began_s,
                )

        return tell

    def end(self, partition: int) -> None:
        """The partition's state is in memory."""
        if self._running.pop(partition, None) is not None:
            self._measure(partition, 0)

    def leave(self, partition: int) -> None:
        """The partition belongs to another worker, or starts over."""
        self._running.pop(partition, None)
        self._measure(partition, None)

    def of(self, partition: int) -> Recovery:
        """How far a partition is; one whose turn has not come is at the beginning."""
        return self._running.get(partition) or Recovery(partition)
