"""The offset ledger against a reference that keeps everything, over any order of reads, finishes and rewinds."""

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streams.transport.ledger import Entry, Ledger


@dataclass
class _Noted:
    """What the reference remembers of one batch."""

    entry: Entry
    next: int
    cost: int
    done: bool = False


class LedgerAgainstAList(RuleBasedStateMachine):
    """The reference never forgets: it scans the whole list for the first batch that is not done."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.batches: list[_Noted] = []
        self.lost: list[Entry] = []
        self.position = 0
        self.before: int | None = None  # committable when it was rewound last

    @rule(gap=st.integers(0, 5), length=st.integers(1, 50), cost=st.integers(0, 1000))
    def read(self, gap: int, length: int, cost: int) -> None:
        first = self.position + gap
        self.position = first + length
        self.batches.append(_Noted(self.ledger.append(first, self.position, cost), self.position, cost))

    @precondition(lambda self: any(not batch.done for batch in self.batches))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        batch = data.draw(st.sampled_from([b for b in self.batches if not b.done]))
        assert self.ledger.finish(batch.entry)
        batch.done = True

    @precondition(lambda self: any(batch.done for batch in self.batches))
    @rule(data=st.data())
    def finish_again(self, data: st.DataObject) -> None:
        assert not self.ledger.finish(data.draw(st.sampled_from([b for b in self.batches if b.done])).entry)

    @precondition(lambda self: self.lost)
    @rule(data=st.data())
    def finish_lost(self, data: st.DataObject) -> None:
        assert not self.ledger.finish(data.draw(st.sampled_from(self.lost)))

    @rule(keep=st.booleans())
    def rewind(self, keep: bool) -> None:
        unfinished = [batch.entry for batch in self.batches if not batch.done]
        start = self._committable()
        assert self.ledger.rewind(keep) == unfinished
        assert all(entry.lost for entry in unfinished)
        self.lost += unfinished
        self.batches.clear()
        self.position = start if start is not None else 0
        self.before = start if keep else None

    @precondition(lambda self: self.position > 0 and self.batches)
    @rule(back=st.integers(1, 10))
    def read_what_was_read(self, back: int) -> None:
        """A batch that does not follow the last one is refused: it would be counted twice."""
        with pytest.raises(ValueError, match="does not follow"):
            self.ledger.append(self.position - back, self.position + 1, 0)

    @rule(at=st.integers(0, 100))
    def read_nothing(self, at: int) -> None:
        with pytest.raises(ValueError, match="empty batch"):
            self.ledger.append(at, at, 0)

    def _committable(self) -> int | None:
        end = self.before
        for batch in self.batches:
            if not batch.done:
                break
            end = batch.next
        return end

    @invariant()
    def commits_the_finished_front_and_nothing_else(self) -> None:
        assert self.ledger.committable == self._committable()
        unfinished = [batch for batch in self.batches if not batch.done]
        assert self.ledger.in_flight == len(unfinished)
        assert self.ledger.in_flight_bytes == sum(batch.cost for batch in unfinished)
        if unfinished and self.ledger.committable is not None:
            assert self.ledger.committable <= unfinished[0].entry.first


TestLedgerAgainstAList = LedgerAgainstAList.TestCase
TestLedgerAgainstAList.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
