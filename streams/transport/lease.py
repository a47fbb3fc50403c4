"""Whether this worker may still believe that its partitions are its own.

Two things take a worker's partitions away without a word to it:

  * it stands still for about a session (SIGSTOP, a frozen machine) and wakes up with batches queued for partitions
    that have a new owner by now. Its event loop knows: the beat, due every fraction of a second, is late. From then on
    nothing is sent until what was queued has been given up (`BatchProducer.restart`) and the lease is taken anew;
  * its network ends, or the group's coordinator does not answer. Its heartbeats know: the group has not confirmed it
    for about a session. Nothing is sent until it does; if it does, in the same generation, nobody had the partitions
    in between.

Not a proof, only a very small window: a request that was already in the network arrives. State is safe from that
by its fences; outputs are with exactly-once, where the broker fences.
"""

from streams.clock import Clock

BEAT_S = 0.25


class Lease:
    """Broken once `beat` comes more than `longest_s` after the one before, or by `lose`; until `renew`. Lapsed while
    the last `confirm` is longer ago than that."""

    def __init__(self, clock: Clock, longest_s: float) -> None:
        self._clock = clock
        self._longest_s = longest_s
        self._last_s = self._confirmed_s = clock.monotonic_s()
        self._broken = False

    @property
    def held(self) -> bool:
        """Whether effects may leave."""
        oldest_s = self._clock.monotonic_s() - self._longest_s
        return not self._broken and self._last_s >= oldest_s and self._confirmed_s >= oldest_s

    def beat(self) -> float:
        """To be called every `BEAT_S`. How long this worker stood still, if too long, else 0."""
        now_s = self._clock.monotonic_s()
        still_s, self._last_s = now_s - self._last_s, now_s
        if still_s <= self._longest_s:
            return 0.0
        self._broken = True
        return still_s

    def confirm(self, asked_s: float) -> None:
        """The group counts this worker in; it was asked at `asked_s`, monotonic."""
        self._confirmed_s = max(asked_s, self._confirmed_s)

    def lose(self) -> None:
        """What is queued belongs to somebody else now."""
        self._broken = True

    def renew(self) -> None:
        """What was queued before is gone."""
        self._last_s = self._clock.monotonic_s()
        self._broken = False
