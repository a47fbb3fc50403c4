"""Buffers are used again, never by two at once, and what lies about is bounded."""

from hypothesis import given
from hypothesis import strategies as st

from models.inference.staging import Staging

KIB = 1 << 10


def pool(most_bytes: int = 64 * KIB) -> Staging[bytearray]:
    return Staging(bytearray, most_bytes)


def test_a_buffer_that_came_back_is_used_again() -> None:
    made = pool()
    first, room = made.take(5_000)
    assert room == len(first) == 8 * KIB
    second, _ = made.take(5_000)
    assert second is not first
    made.give_back(first, room)
    again, _ = made.take(6_000)
    assert again is first
    assert (made.allocated, made.reused, made.free_bytes) == (2, 1, 0)


def test_a_buffer_of_another_size_is_left_alone() -> None:
    made = pool()
    small, room = made.take(100)
    made.give_back(small, room)
    large, _ = made.take(20_000)
    assert large is not small
    assert made.take(0)[0] is small


def test_the_least_used_goes_first() -> None:
    made = pool(20 * KIB)
    held = [made.take(size * KIB) for size in (4, 8, 16)]
    for buffer, room in held:
        made.give_back(buffer, room)
    assert made.free_bytes <= 20 * KIB
    assert made.take(16 * KIB)[0] is held[2][0]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 100_000)), max_size=80))
def test_none_is_given_twice_and_what_lies_about_is_bounded(steps: list[tuple[bool, int]]) -> None:
    made = pool()
    out: list[tuple[bytearray, int]] = []
    for take, size in steps:
        if take or not out:
            buffer, room = made.take(size)
            assert room >= size and room == len(buffer)
            assert all(buffer is not other for other, _ in out)
            out.append((buffer, room))
        else:
            made.give_back(*out.pop(size % len(out)))
        assert 0 <= made.free_bytes <= 64 * KIB
        assert made.free_bytes == sum(size * len(free) for size, free in made._free.items())
