"""The simulation can fail: each test breaks one rule of the protocol on purpose, and some seed must show it.

What cannot be broken without a seed noticing is what `test_protocol` proves.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pytest

import models.taste.readers.saved
import streams.transport.transactions
from models.taste.fences import I64
from simulated.run import simulate
from streams.agents.clicks import ClicksAgent
from streams.effects import Emit
from streams.topology.topics import TASTE_CHANGELOG
from streams.transport.commit import GroupCommit
from streams.transport.lease import Lease
from streams.transport.ledger import Entry, Ledger
from streams.transport.producer import BatchProducer, ignore_result

SEEDS = 400
ANY: tuple[str, ...] = ()

Break = Callable[[pytest.MonkeyPatch], None]


def offsets_before_rows(patch: pytest.MonkeyPatch) -> None:
    """Batches count as done when their rows have been sent."""
    patch.setattr(GroupCommit, "_send", _not_waiting_for(lambda emit: emit.topic == TASTE_CHANGELOG))


def rows_before_outputs(patch: pytest.MonkeyPatch) -> None:
    """Rows are sent without a wait for what they stand for."""
    patch.setattr(GroupCommit, "_send", _not_waiting_for(lambda emit: emit.topic != TASTE_CHANGELOG))


def _not_waiting_for(which: Callable[[Emit], bool]) -> Any:
    send = GroupCommit._send

    async def hasty(self: Any, emits: Sequence[Emit], generation: int) -> list[list[Any]]:
        pending = await send(self, emits, generation)
        for futures in pending:
            for future in futures:
                ignore_result(future)
        return [[] if which(emit) else futures for emit, futures in zip(emits, pending, strict=True)]

    return hasty


def groups_of_an_earlier_connection(patch: pytest.MonkeyPatch) -> None:
    """A group that was on its way when another failed goes on over the new connection, and rows do not wait for
    the group before."""
    send, perform = GroupCommit._send, GroupCommit._perform

    async def anyway(self: Any, emits: Sequence[Emit], generation: int) -> list[list[Any]]:
        return await send(self, emits, self._generation)

    async def alone(self: Any, group: Any, effects: Any, before: Any, sent: Any, generation: int) -> None:
        await perform(self, group, effects, None, sent, generation)

    patch.setattr(GroupCommit, "_send", anyway)
    patch.setattr(GroupCommit, "_perform", alone)


def the_last_row_stands(patch: pytest.MonkeyPatch) -> None:
    """Recovery takes a reader's last row, not the one with the highest fence."""

    def last(owners: I64, fences: I64, held: I64) -> tuple[I64, I64]:
        place = {owner: at for at, owner in enumerate(owners.tolist())}
        return np.array(sorted(place.values()), np.int64), np.empty(0, np.int64)

    patch.setattr(models.taste.readers.saved, "standing", last)


def memory_is_kept(patch: pytest.MonkeyPatch) -> None:
    """A failed group's effects stay in memory, beyond what is durable."""
    recover = ClicksAgent.recover
    held: set[tuple[int, int]] = set()

    async def once(self: ClicksAgent, partition: int) -> None:
        if (id(self), partition) not in held:
            held.add((id(self), partition))
            await recover(self, partition)

    patch.setattr(ClicksAgent, "recover", once)
    patch.setattr(ClicksAgent, "drop", lambda self, partition: None)


def any_finished_batch_counts(patch: pytest.MonkeyPatch) -> None:
    """The offset moves past batches that are not done."""
    finish = Ledger.finish

    def eager(self: Ledger, entry: Entry) -> bool:
        done = finish(self, entry)
        if done:
            self._committable = max(entry.next, self._committable or 0)
        return done

    patch.setattr(Ledger, "finish", eager)


def no_lease(patch: pytest.MonkeyPatch) -> None:
    """A worker that stood still longer than its session sends what it had queued."""
    patch.setattr(Lease, "held", True)
    patch.setattr(Lease, "beat", lambda self: 0.0)


def nobody_asks_the_group(patch: pytest.MonkeyPatch) -> None:
    """A worker that is cut off from its group sends what it had queued once the network is back."""
    held = Lease.held.fget
    assert held is not None

    def deaf(self: Lease) -> bool:
        self._confirmed_s = self._clock.monotonic_s()
        return bool(held(self))

    patch.setattr(Lease, "held", property(deaf))
    patch.setattr(Lease, "lose", lambda self: None)


def nobody_is_fenced(patch: pytest.MonkeyPatch) -> None:
    """Every worker has transactional ids of its own."""
    started, number = streams.transport.transactions._started, iter(range(1_000_000))

    async def own(kafka: Any, transactional_id: str) -> Any:
        return await started(kafka, f"{transactional_id}.{next(number)}")

    patch.setattr(streams.transport.transactions, "_started", own)


def commit_unconfirmed(patch: pytest.MonkeyPatch) -> None:
    """A transaction is committed whether or not its batches were taken."""

    async def hope(pending: Iterable[Any]) -> None:
        await asyncio.gather(*pending, return_exceptions=True)

    patch.setattr(BatchProducer, "confirmed", staticmethod(hope))


def _first_broken(delivery: str, faults: Sequence[str]) -> str | None:
    for seed in range(SEEDS):
        outcome = simulate(seed, delivery, script=lambda world: world.draw(faults))
        if outcome.broken:
            return str(outcome)
    return None


@pytest.mark.parametrize(
    ("delivery", "mutation", "seen_as", "faults"),
    [
        ("at_least_once", offsets_before_rows, "was committed before", ANY),
        ("at_least_once", rows_before_outputs, "was durable before", ANY),
        ("at_least_once", groups_of_an_earlier_connection, "was durable before", ANY),
        (
            "at_least_once",
            the_last_row_stands,
            "not the state of a clean replay",
            ("late_requests", "stand_still_for_long"),
        ),
        ("at_least_once", memory_is_kept, "", ANY),
        ("at_least_once", any_finished_batch_counts, "was committed before", ANY),
        ("at_least_once", no_lease, "the last list is of", ("stand_still_for_long", "busy")),
        ("at_least_once", nobody_asks_the_group, "the last list is of", ("cut_off", "busy")),
        ("exactly_once", nobody_is_fenced, "", ("stand_still_for_long", "busy")),
        ("exactly_once", commit_unconfirmed, "", ("refuse",)),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_broken_rule_is_found(
    delivery: str, mutation: Break, seen_as: str, faults: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutation(monkeypatch)
    found = _first_broken(delivery, faults)
    assert found is not None, f"{SEEDS} seeds did not notice: {mutation.__doc__}"
    print(found)
    assert seen_as in found
