"""The lease breaks when the beat is late, and stays broken until what was queued is given up."""

from streams.transport.lease import Lease


class _Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_ms(self) -> int:
        return 0


def test_held_while_the_beat_is_on_time() -> None:
    clock = _Clock()
    lease = Lease(clock, 6.0)
    for _ in range(10):
        clock.now_s += 5.9
        assert lease.held and lease.beat() == 0.0


def test_not_held_from_the_moment_of_waking_up() -> None:
    clock = _Clock()
    lease = Lease(clock, 6.0)
    clock.now_s += 6.1
    assert not lease.held  # before the beat had its turn
    assert lease.beat() > 6.0
    clock.now_s += 0.1
    assert lease.beat() == 0.0 and not lease.held  # the queue is still that of before
    lease.renew()
    assert lease.held
