"""The lease breaks when the beat is late, and stays broken until what was queued is given up; it lapses while the group
does not confirm it."""

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
        lease.confirm(clock.now_s)


def test_not_held_from_the_moment_of_waking_up() -> None:
    clock = _Clock()
    lease = Lease(clock, 6.0)
    clock.now_s += 6.1
    assert not lease.held  # before the beat had its turn
    assert lease.beat() > 6.0
    clock.now_s += 0.1
    lease.confirm(clock.now_s)
    assert lease.beat() == 0.0 and not lease.held  # the queue is still that of before
    lease.renew()
    assert lease.held


def test_lapses_while_the_group_does_not_answer_and_comes_back_with_it() -> None:
    clock = _Clock()
    lease = Lease(clock, 6.0)
    for _ in range(4):
        clock.now_s += 2.0
        lease.beat()
    assert not lease.held
    lease.confirm(clock.now_s - 6.5)  # the answer to an old question
    assert not lease.held
    lease.confirm(clock.now_s - 0.5)
    assert lease.held


def test_what_is_lost_stays_so_until_it_is_given_up() -> None:
    clock = _Clock()
    lease = Lease(clock, 6.0)
    lease.lose()
    lease.confirm(clock.now_s)
    lease.beat()
    assert not lease.held
    lease.renew()
    assert lease.held
