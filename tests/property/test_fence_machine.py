"""The fence of the readers' state against a reference that is a list: owners and zombies fold the same log from
anywhere, their rows land in any order, twice or never, and whoever reads the changelog back is where a plain pass over
the log would be."""

import itertools
import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from models.taste.actions import CODES, weights_of
from models.taste.index import ItemIndex
from models.taste.readers.layout import KEPT
from models.taste.readers.users import UserRows

DIM, RING = 64, 4
USERS = ("ann", "bob", "cy")
WORKERS = st.integers(0, 2)


@dataclass(frozen=True, slots=True)
class _Click:
    offset: int
    user: str
    event: int  # id; 0: none
    item: str


@dataclass(slots=True)
class _Worker:
    """An owner, or one that still believes so."""

    rows: UserRows
    at: int = 0  # index in the log of the next click to read
    sent: list[tuple[str, bytes]] = field(default_factory=list)  # rows on their way


class FenceAgainstAList(RuleBasedStateMachine):
    """The reference: a reader's clicks in the order of the log, without those whose id was among the last ones."""

    def __init__(self) -> None:
        super().__init__()
        self.items = ItemIndex(dim=DIM, max_items=100)
        self.log: list[_Click] = []
        self.accepted: dict[str, list[_Click]] = {user: [] for user in USERS}
        self.recent: dict[str, deque[int]] = {user: deque(maxlen=KEPT) for user in USERS}
        self.changelog: list[tuple[str, bytes, int]] = []  # with the fence, as the sender knew it
        self.workers = [_Worker(self._fresh()) for _ in range(3)]

    def _fresh(self) -> UserRows:
        return UserRows(self.items, half_lives_s=(math.inf,), ring=RING)

    # -- the log grows

    @initialize(users=st.lists(st.sampled_from(USERS), min_size=4, max_size=12))
    def some_clicks(self, users: list[str]) -> None:
        for user in users:
            self.click(user, len(self.log) % 10, 0, 1)

    @rule(user=st.sampled_from(USERS), item=st.integers(0, 9), gap=st.integers(0, 3), count=st.integers(1, 5))
    def click(self, user: str, item: int, gap: int, count: int) -> None:
        for _ in range(count):
            self._append(user, len(self.log) + 1, f"item{item}", gap)

    @rule(user=st.sampled_from(USERS))
    def click_without_an_id(self, user: str) -> None:
        self._append(user, 0, "item0", 0)

    @precondition(lambda self: self.log)
    @rule(data=st.data())
    def the_same_event_again(self, data: st.DataObject) -> None:
        """Its producer had no answer, and sent it anew."""
        old = data.draw(st.sampled_from(self.log[-20:]))
        self._append(old.user, old.event, old.item, 0)

    def _append(self, user: str, event: int, item: str, gap: int) -> None:
        offset = (self.log[-1].offset + 1 if self.log else 0) + gap
        click = _Click(offset, user, event, item)
        self.log.append(click)
        if not event or event not in self.recent[user]:
            self.recent[user].append(event)
            self.accepted[user].append(click)

    # -- workers

    @rule(who=WORKERS, count=st.integers(1, 12), land=st.booleans())
    def read(self, who: int, count: int, land: bool) -> None:
        """Fold what comes next; rows of all that moved are sent, and may land at once."""
        worker = self.workers[who]
        clicks = self.log[worker.at : worker.at + count]
        worker.at += len(clicks)
        if not clicks:
            return
        before = {user: self._fence(worker, user) for user in USERS}
        kinds = np.full(len(clicks), CODES["click"], np.int8)
        folded = worker.rows.fold(
            [c.user for c in clicks],
            self.items.lookup([c.item for c in clicks]),
            kinds,
            weights_of(kinds, np.full(len(clicks), np.nan)),
            np.array([c.offset for c in clicks], np.int64),
            np.array([c.offset for c in clicks], np.int64),
            ids=np.array([c.event for c in clicks], np.uint64),
        )
        new = [c in self.accepted[c.user] and c.offset > before[c.user] for c in clicks]
        assert folded.applied.tolist() == new
        moved = [worker.rows.names[row] for row in folded.rows.tolist()]
        assert sorted(moved) == sorted({c.user for c, applied in zip(clicks, new, strict=True) if applied})
        worker.sent += zip(moved, worker.rows.encode(folded.rows), strict=True)
        if land:
            self.rows_land(who, len(worker.sent))

    @rule(who=WORKERS, back=st.integers(1, 15))
    def are_given_again_what_they_had(self, who: int, back: int) -> None:
        self.workers[who].at = max(0, self.workers[who].at - back)

    @rule(who=WORKERS, count=st.integers(1, 4))
    def rows_land(self, who: int, count: int) -> None:
        """One after the other, as a producer sends them; late ones of a zombie too."""
        worker = self.workers[who]
        for user, value in worker.sent[:count]:
            self.changelog.append((user, value, self._fence_of(user, value)))
        del worker.sent[:count]

    @precondition(lambda self: self.changelog)
    @rule(data=st.data())
    def a_row_lands_twice(self, data: st.DataObject) -> None:
        self.changelog.append(data.draw(st.sampled_from(self.changelog)))

    @rule(who=WORKERS)
    def rows_are_lost(self, who: int) -> None:
        """Given up with the connection; whoever sent them starts over."""
        self.workers[who].sent.clear()
        self._recover(self.workers[who], [], 0)

    @rule(who=WORKERS, cuts=st.lists(st.integers(0, 60), max_size=4), back=st.integers(0, 10))
    def recover(self, who: int, cuts: list[int], back: int) -> None:
        """A fresh owner reads the changelog, however it is cut, and starts at or before what may be committed. Rows
        that its process had sent may still land."""
        self._recover(self.workers[who], cuts, back)

    def _recover(self, worker: _Worker, cuts: list[int], back: int) -> None:
        worker.rows = self._fresh()
        overtaken: set[str] = set()
        edges = sorted({0, len(self.changelog), *(cut for cut in cuts if cut < len(self.changelog))})
        for start, end in itertools.pairwise(edges):
            part = self.changelog[start:end]
            behind = worker.rows.load([user for user, _, _ in part], [value for _, value, _ in part])
            overtaken -= {user for user, _, _ in part}
            overtaken |= set(behind)
        durable = {user: max((f for u, _, f in self.changelog if u == user), default=-1) for user in USERS}
        last = {user: fence for user, _, fence in self.changelog}
        assert {user: self._fence(worker, user) for user in USERS} == durable
        assert overtaken == {user for user, fence in last.items() if fence < durable[user]}
        worker.at = max(0, self._committable(durable) - back)

    def _committable(self, durable: dict[str, int]) -> int:
        """Index of the first click whose effect is not durable."""
        for at, click in enumerate(self.log):
            if click in self.accepted[click.user] and click.offset > durable[click.user]:
                return at
        return len(self.log)

    # -- what must hold

    def _fence(self, worker: _Worker, user: str) -> int:
        return int(worker.rows.fence[worker.rows.rows_of([user])[0]])

    def _fence_of(self, user: str, value: bytes) -> int:
        rows = self._fresh()
        rows.load([user], [value])
        return int(rows.fence[rows.rows_of([user])[0]])

    @invariant()
    def memory_is_what_a_plain_pass_up_to_the_fence_makes(self) -> None:
        for worker in self.workers:
            for user in USERS:
                row = worker.rows.rows_of([user])
                expected = [c for c in self.accepted[user] if c.offset <= int(worker.rows.fence[row[0]])]
                assert worker.rows.fence[row[0]] == (expected[-1].offset if expected else -1)
                assert worker.rows.bank[row[0], 0, DIM] == len(expected)  # clicks weigh 1, and nothing decays
                items, _, _ = worker.rows.recent(row, RING)
                names = [self.items.names[item] for item in items[0].tolist() if item >= 0]
                assert names == [c.item for c in expected[::-1][:RING]]


TestFenceAgainstAList = FenceAgainstAList.TestCase
TestFenceAgainstAList.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
