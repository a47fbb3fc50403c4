"""Changelog rows that gather: one write for what came in a while, in order, and at once after a pause."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from streams.clock import SystemClock
from streams.effects import Emit
from streams.errors import Retry
from streams.transport.batch import PartitionBatch
from streams.transport.ledger import Entry
from streams.transport.rows import RowWriter

INTERVAL_S = 0.05


class Log:
    """Takes writes; those of a generation in `stale` fail."""

    def __init__(self) -> None:
        self.writes: list[list[tuple[int, list[bytes | None]]]] = []
        self.heard: list[int] = []
        self.stale: set[int] = set()
        self.full: asyncio.Event | None = None  # what the next write waits for

    async def send(self, emits: Sequence[Emit], generation: int) -> list[list[Any]]:
        if generation in self.stale:
            raise Retry("an earlier group failed")
        full, self.full = self.full, None
        if full is not None:
            await full.wait()
        self.writes.append([(emit.partition, list(emit.keys)) for emit in emits])
        return [[emit.partition] for emit in emits]

    async def confirmed(self, pending: Sequence[Any]) -> None:
        await asyncio.sleep(0)

    def sent(self, emit: Emit, pending: Sequence[Any], generation: int) -> None:
        assert list(pending) == [emit.partition]
        self.heard.append(emit.partition)


def run(story: Callable[[RowWriter, Log], Awaitable[None]]) -> None:
    async def main() -> None:
        log = Log()
        rows = RowWriter(log.send, log.confirmed, log.sent, SystemClock(), INTERVAL_S)
        await asyncio.wait_for(story(rows, log), 5.0)
        await rows.cancel()

    asyncio.run(main())


def of(key: bytes, partition: int = 0) -> Emit:
    return Emit("log", partition, [key], [b"row of " + key])


def batch(partition: int = 0) -> PartitionBatch:
    return PartitionBatch("in", partition, [], Entry(0, 1, 1), 0.0)


def test_the_first_rows_leave_at_once_and_those_of_the_next_groups_in_one_write() -> None:
    async def story(rows: RowWriter, log: Log) -> None:
        await rows.add([of(b"a")], [batch()], 0)
        assert log.writes == [[(0, [b"a"])]]
        second = rows.add([of(b"b"), of(b"c", 1)], [batch(), batch(1)], 0)
        await asyncio.sleep(0)
        third = rows.add([of(b"d")], [batch()], 0)
        assert second is third and len(log.writes) == 1
        await third
        assert log.writes[1:] == [[(0, [b"b", b"d"]), (1, [b"c"])]]
        assert log.heard == [0, 0, 1]

    run(story)


@pytest.mark.parametrize(("part", "writes"), [(0.5, 1), (0.8, 2)])
def test_rows_that_are_almost_due_leave_with_outputs(part: float, writes: int) -> None:
    async def story(rows: RowWriter, log: Log) -> None:
        await rows.add([of(b"a")], [batch()], 0)
        rows.add([of(b"b")], [batch()], 0)
        await asyncio.sleep(INTERVAL_S * part)
        rows.outputs_leave()
        await asyncio.sleep(0)  # one turn: the producer forms its request in the next
        assert len(log.writes) == writes

    run(story)


def test_rows_of_a_batch_that_is_lost_meanwhile_stay_behind() -> None:
    async def story(rows: RowWriter, log: Log) -> None:
        gone, stays = batch(1), batch()
        write = rows.add([of(b"gone", 1), of(b"stays")], [gone, stays], 0)
        gone.entry.lost = True
        await write
        assert log.writes == [[(0, [b"stays"])]]

    run(story)


def test_rows_of_an_earlier_connection_fail_alone() -> None:
    async def story(rows: RowWriter, log: Log) -> None:
        await rows.add([of(b"a")], [batch()], 0)
        stale = rows.add([of(b"b")], [batch()], 0)
        log.stale.add(0)
        fresh = rows.add([of(b"c")], [batch()], 1)
        with pytest.raises(Retry):
            await stale
        await fresh
        assert log.writes == [[(0, [b"a"])], [(0, [b"c"])]]

    run(story)


def test_no_write_passes_one_that_waits_for_room() -> None:
    async def story(rows: RowWriter, log: Log) -> None:
        log.full = room = asyncio.Event()
        first = rows.add([of(b"a")], [batch()], 0)
        await asyncio.sleep(0)
        second = rows.add([of(b"b")], [batch()], 0)
        await asyncio.sleep(INTERVAL_S * 1.5)
        assert log.writes == [] and not second.done()
        room.set()
        await asyncio.gather(first, second)
        assert [keys for ((_, keys),) in log.writes] == [[b"a"], [b"b"]]

    run(story)


def test_what_is_cancelled_does_not_leave() -> None:
    async def story(rows: RowWriter, log: Log) -> None:
        await rows.add([of(b"a")], [batch()], 0)
        rows.add([of(b"b")], [batch()], 0)
        await rows.cancel()
        await asyncio.sleep(INTERVAL_S * 1.5)
        assert len(log.writes) == 1

    run(story)
