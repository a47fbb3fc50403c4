"""Group commit alone: outputs before changelog before done, whatever the broker confirms first or never."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from recording_producer import RecordingProducer, settled
from streams.clock import SystemClock
from streams.effects import Effects, Emit
from streams.errors import Retry
from streams.transport import commit
from streams.transport.batch import PartitionBatch
from streams.transport.commit import GroupCommit
from streams.transport.durable import Submission
from streams.transport.ledger import Ledger

OUT, LOG = "out", "log"


class _Observer:
    def __init__(self) -> None:
        self.groups: list[int] = []
        self.failed = 0

    def group_decided(self, batches: int, records: int, decide_s: float) -> None:
        self.groups.append(batches)

    def group_done(self, *_: object) -> None: ...

    def group_failed(self, batches: int) -> None:
        self.failed += 1

    def foreign_rows(self, records: int) -> None: ...


class Bench:
    """A group commit over a recording producer; a batch's work is the key of its output and changelog row."""

    def __init__(
        self, groups_in_flight: int = 4, group_records: int = 100, changelog_interval_s: float = 0.0
    ) -> None:
        self.producer = RecordingProducer()
        self.observer = _Observer()
        self.finished: list[bytes] = []
        self.failures: list[BaseException] = []
        self.decided: list[list[bytes]] = []
        self._ledger = Ledger()
        self._next = 0
        self._works: dict[int, bytes] = {}
        self.commit: GroupCommit[bytes] = GroupCommit(
            decide=self._decide,
            producer=self.producer,  # type: ignore[arg-type]
            finish=self._finish,
            failed=self.failures.append,
            in_flight=lambda partition: self._ledger.unfinished,
            clock=SystemClock(),
            observer=self.observer,
            groups_in_flight=groups_in_flight,
            group_records=group_records,
            changelog_interval_s=changelog_interval_s,
        )

    def _decide(self, group: Sequence[Submission[bytes]]) -> Effects:
        keys = [submission.work for submission in group]
        self.decided.append(keys)
        if b"poison" in keys:
            raise ZeroDivisionError("a bug of the agent")
        emits = [(s.work, s.batch.partition) for s in group]
        return Effects(
            outputs=[Emit(OUT, partition, [key], [b"v"]) for key, partition in emits],
            changelog=[Emit(LOG, partition, [key], [b"v"]) for key, partition in emits],
        )

    def _finish(self, batch: PartitionBatch) -> None:
        self._ledger.finish(batch.entry)
        self.finished.append(self._works[id(batch)])

    def read(self, key: bytes, partition: int = 0) -> PartitionBatch:
        """A batch that the agent works on."""
        entry = self._ledger.append(self._next, self._next + 1, 1)
        self._next += 1
        batch = PartitionBatch("in", partition, [object()], entry, 0.0)  # type: ignore[list-item]
        self._works[id(batch)] = key
        return batch

    def submit(self, key: bytes, partition: int = 0) -> PartitionBatch:
        batch = self.read(key, partition)
        self.commit.submit(batch, key)
        return batch


def run(
    story: Callable[[Bench], Awaitable[None]],
    groups_in_flight: int = 4,
    group_records: int = 100,
    changelog_interval_s: float = 0.0,
) -> None:
    async def main() -> None:
        bench = Bench(groups_in_flight, group_records, changelog_interval_s)
        forming = asyncio.create_task(bench.commit.run())
        try:
            await asyncio.wait_for(story(bench), 60.0)
        finally:
            forming.cancel()
            await bench.commit.cancel()

    asyncio.run(main())


def test_outputs_are_confirmed_before_the_changelog_leaves_and_that_before_the_batch_is_done() -> None:
    async def story(bench: Bench) -> None:
        bench.submit(b"a")
        await settled()
        assert bench.producer.events == [("sent", OUT, (b"a",))]
        await bench.producer.confirm(OUT, b"a")
        assert bench.producer.events[-1] == ("sent", LOG, (b"a",))
        assert bench.finished == []
        await bench.producer.confirm(LOG, b"a")
        assert bench.finished == [b"a"]

    run(story)


def test_what_waits_leaves_together_and_the_next_group_does_not_wait_for_the_first() -> None:
    async def story(bench: Bench) -> None:
        for key in (b"a", b"b", b"c"):
            bench.submit(key)
        await settled()
        bench.submit(b"d")
        await settled()
        assert bench.decided == [[b"a", b"b", b"c"], [b"d"]]
        assert bench.producer.sent(OUT) == [b"a", b"b", b"c", b"d"]

    run(story)


def test_changelogs_leave_in_the_order_of_groups_even_if_later_outputs_are_confirmed_first() -> None:
    async def story(bench: Bench) -> None:
        bench.submit(b"a")
        await settled()
        bench.submit(b"b")
        await settled()
        await bench.producer.confirm(OUT, b"b")
        assert bench.producer.sent(LOG) == []  # b's row holds a's effects: it must not be durable before
        await bench.producer.confirm(OUT, b"a")
        assert bench.producer.sent(LOG) == [b"a", b"b"]
        await bench.producer.confirm(LOG, b"b")
        assert bench.finished == [b"b"]  # out of order is the ledger's business
        await bench.producer.confirm(LOG, b"a")
        assert bench.finished == [b"b", b"a"]

    run(story)


def test_rows_that_are_almost_due_leave_with_the_next_outputs() -> None:
    async def story(bench: Bench) -> None:
        for key in (b"a", b"b"):
            bench.submit(key)
            await settled()
            await bench.producer.confirm(OUT, key)
        assert bench.producer.sent(LOG) == [b"a"]
        await asyncio.sleep(0.8)
        assert bench.producer.sent(LOG) == [b"a"]
        bench.submit(b"c")
        await settled()
        assert bench.producer.events[-2:] == [("sent", OUT, (b"c",)), ("sent", LOG, (b"b",))]

    run(story, changelog_interval_s=1.0)


def test_a_failed_output_fails_every_later_group_and_nothing_of_them_is_done() -> None:
    async def story(bench: Bench) -> None:
        for key in (b"a", b"b", b"c"):
            bench.submit(key)
            await settled()
        await bench.producer.confirm(OUT, b"c")
        await bench.producer.refuse(OUT, b"a")
        await bench.producer.confirm(OUT, b"b")
        assert bench.producer.sent(LOG) == []
        assert bench.finished == []
        assert len(bench.failures) == 3 and all(isinstance(f, Retry) for f in bench.failures)
        assert bench.observer.failed == 3
        bench.submit(b"d")  # its state already holds what was not confirmed
        await settled()
        await bench.producer.confirm(OUT, b"d")
        assert bench.producer.sent(LOG) == [] and bench.finished == []

    run(story)


def test_a_failed_changelog_row_leaves_its_batch_undone() -> None:
    async def story(bench: Bench) -> None:
        bench.submit(b"a")
        await settled()
        await bench.producer.confirm(OUT, b"a")
        await bench.producer.refuse(LOG, b"a")
        assert bench.finished == [] and len(bench.failures) == 1

    run(story)


def test_after_a_reset_the_chain_starts_anew() -> None:
    async def story(bench: Bench) -> None:
        bench.submit(b"a")
        await settled()
        await bench.producer.refuse(OUT, b"a")
        await bench.commit.reset([0])
        bench.submit(b"b")
        await settled()
        await bench.producer.confirm(OUT, b"b")
        await bench.producer.confirm(LOG, b"b")
        assert bench.finished == [b"b"]

    run(story)


def test_a_reset_gives_up_groups_that_do_not_end_with_their_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(commit, "RESET_WITHIN_S", 0.02)

    async def story(bench: Bench) -> None:
        bench.submit(b"a")
        await settled()
        bench.producer.forget(OUT, b"a")
        await asyncio.wait_for(bench.commit.reset([0]), 60.0)
        bench.submit(b"b")
        await settled()
        await bench.producer.confirm(OUT, b"b")
        await bench.producer.confirm(LOG, b"b")
        assert bench.finished == [b"b"]

    run(story)


def test_a_batch_that_was_lost_meanwhile_writes_no_changelog_the_others_do() -> None:
    async def story(bench: Bench) -> None:
        bench.submit(b"stays", partition=0)
        gone = bench.submit(b"gone", partition=1)
        await settled()
        gone.entry.lost = True
        await bench.producer.confirm(OUT, b"stays")
        await bench.producer.confirm(OUT, b"gone")
        assert bench.producer.sent(LOG) == [b"stays"]

    run(story)


def test_a_batch_that_was_lost_while_it_waited_is_not_even_decided() -> None:
    async def story(bench: Bench) -> None:
        bench.submit(b"a").entry.lost = True
        bench.submit(b"b")
        await settled()
        assert bench.decided == [[b"b"]]

    run(story)


def test_groups_on_their_way_are_bounded_and_what_comes_meanwhile_waits_as_one() -> None:
    async def story(bench: Bench) -> None:
        for key in (b"a", b"b", b"c", b"d", b"e"):
            bench.submit(key)
            await settled()
        assert bench.decided == [[b"a"], [b"b"]]
        await bench.producer.confirm(OUT, b"a")
        await bench.producer.confirm(LOG, b"a")
        assert bench.decided == [[b"a"], [b"b"], [b"c", b"d", b"e"]]

    run(story, groups_in_flight=2)


def test_a_later_list_never_passes_an_earlier_one() -> None:
    async def story(bench: Bench) -> None:
        bench.producer.full[0] = asyncio.Event()
        bench.submit(b"first", partition=0)  # no room: its group waits, with the next output behind it
        bench.submit(b"old", partition=1)
        await settled()
        bench.submit(b"new", partition=1)
        await settled()
        bench.producer.full[0].set()
        await settled()
        assert bench.producer.sent(OUT) == [b"first", b"old", b"new"]

    run(story)


def test_a_group_ends_with_the_batch_that_reaches_the_bound_on_records() -> None:
    async def story(bench: Bench) -> None:
        for key in (b"a", b"b", b"c", b"d", b"e"):
            bench.submit(key)
        await settled()
        assert bench.decided == [[b"a", b"b"], [b"c", b"d"], [b"e"]]

    run(story, group_records=2)


def test_an_exception_of_the_agent_ends_the_grouping() -> None:
    async def main() -> None:
        bench = Bench()
        forming = asyncio.create_task(bench.commit.run())
        bench.submit(b"poison")
        await settled()
        with pytest.raises(ZeroDivisionError):
            await forming
        assert bench.finished == [] and bench.producer.events == []

    asyncio.run(main())


def test_cancel_gives_up_what_is_on_its_way() -> None:
    async def story(bench: Bench) -> None:
        bench.submit(b"a")
        bench.submit(b"b")
        await settled()
        await bench.commit.cancel()
        await bench.producer.confirm(OUT, b"a")
        assert bench.finished == [] and bench.producer.sent(LOG) == []

    run(story)


def test_while_partitions_leave_no_batch_passes_one_that_was_read_before_it() -> None:
    async def story(bench: Bench) -> None:
        first, second, third = (bench.read(key) for key in (b"a", b"b", b"c"))
        bench.commit.submit(third, b"c")
        await settled()
        assert bench.producer.sent(OUT) == [b"c"]  # work goes on: a long recording holds no neighbour up
        fourth = bench.read(b"d")
        bench.commit.draining(True)
        bench.commit.submit(second, b"b")
        bench.commit.submit(fourth, b"d")
        await settled()
        assert bench.producer.sent(OUT) == [b"c"], "b and d would come twice if a is not done in time"
        bench.commit.submit(first, b"a")
        await settled()
        assert bench.producer.sent(OUT) == [b"c", b"b", b"d", b"a"]
        assert bench.decided[-1] == [b"b", b"d", b"a"]

    run(story)


def test_what_was_held_back_leaves_once_the_draining_is_over() -> None:
    async def story(bench: Bench) -> None:
        bench.read(b"a")
        bench.commit.draining(True)
        bench.submit(b"b")
        await settled()
        assert bench.producer.sent(OUT) == []
        bench.commit.draining(False)
        await settled()
        assert bench.producer.sent(OUT) == [b"b"]

    run(story)


def test_settled_what_is_on_its_way_ends_and_nothing_new_leaves() -> None:
    async def story(bench: Bench) -> None:
        bench.submit(b"a")
        await settled()
        settling = asyncio.create_task(bench.commit.settle(60.0))
        await settled()
        bench.submit(b"b")
        await bench.producer.confirm(OUT, b"a")
        assert not settling.done() and bench.finished == []
        await bench.producer.confirm(LOG, b"a")
        await asyncio.wait_for(settling, 60.0)
        assert bench.finished == [b"a"]
        assert bench.producer.sent(OUT) == [b"a"], "b would be repeated: its offset is not committed"

    run(story)


def test_settling_waits_no_longer_than_it_is_told() -> None:
    async def story(bench: Bench) -> None:
        bench.submit(b"a")
        await settled()
        await asyncio.wait_for(bench.commit.settle(0.01), 60.0)
        assert bench.finished == []

    run(story)
