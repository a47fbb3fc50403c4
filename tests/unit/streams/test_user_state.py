"""Recovery of a partition's readers: who is written again, and who stays away."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from models.taste.index import ItemIndex
from models.taste.readers.users import UserRows
from streams.settings import load
from streams.state.users import UserState

Poll = list[tuple[bytes, bytes | None]]


class _Log:
    """A changelog, a poll at a time."""

    def __init__(self, *polls: Poll) -> None:
        self._polls = polls

    async def replay(
        self,
        partition: int,
        apply: Callable[[Sequence[bytes], Sequence[bytes | None]], None],
        tell: Any = None,
    ) -> int:
        for poll in self._polls:
            apply([key for key, _ in poll], [value for _, value in poll])
        return sum(map(len, self._polls))


def rows_of(user: str, *offsets: int) -> list[bytes]:
    """The user's state after each event."""
    taste = load().taste
    rows = UserRows(ItemIndex(dim=taste.dim), taste.half_lives_s, taste.ring)
    found = []
    for offset in offsets:
        at_ms = np.array([1_767_225_600_000 + offset], np.int64)
        one = np.ones(1, np.int8)
        rows.fold(
            [user],
            rows.items.lookup(["i"]),
            2 * one,
            one.astype(np.float32),
            at_ms,
            np.array([offset], np.int64),
        )
        found += rows.encode(rows.rows_of([user]))
    return found


def recovered(*polls: Poll) -> UserState:
    taste = load().taste
    state = UserState(taste, ItemIndex(dim=taste.dim))
    log: Any = _Log(*polls)
    asyncio.run(state.recover(0, log))
    return state


def test_an_overtaken_row_is_written_again_once() -> None:
    older, newer = rows_of("ann", 1, 2)
    state = recovered([(b"ann", newer)], [(b"ann", older)])
    healing = state.healing(0)
    assert healing is not None and list(healing.keys) == [b"ann"] and healing.values == [newer]
    assert state.healing(0) is None


def test_rows_in_their_order_need_no_healing() -> None:
    older, newer = rows_of("ann", 1, 2)
    assert recovered([(b"ann", older)], [(b"ann", newer)]).healing(0) is None
    assert recovered([(b"ann", newer), (b"ann", older), (b"ann", newer)]).healing(0) is None


def test_a_removed_reader_stays_away_even_if_overtaken_before() -> None:
    older, newer = rows_of("ann", 1, 2)
    for polls in (
        [[(b"ann", newer), (b"ann", older)], [(b"ann", None)]],
        [[(b"ann", newer), (b"ann", None)]],
    ):
        state = recovered(*polls)
        assert state.healing(0) is None and state.rows.users() == []
    state = recovered([(b"ann", newer), (b"ann", None)], [(b"ann", older)])
    assert state.rows.users() == ["ann"]  # came again after the removal
