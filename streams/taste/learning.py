"""What readers choose from their lists, learnt by this worker: the weights of `models.taste.learnt.calibrated`, and
all that `models.taste.lists.ordering` learns, live.

A sample of lists, by source offset, is remembered with what it was made of; the reader's next positive click moves the
weights. No list is made for it, so a click that is learnt from costs one step over the candidates that were there.

The weights are the worker's own. They are no part of any reader's state, so they change neither what a replay gives nor
what `verify` compares. With `state.snapshots` they are in files there and outlive the process; without it they begin
anew with those of a plain list. What `models.taste.learnt.knowledge` holds is made anew from readers' rings.
"""

import asyncio
import heapq
import logging
from collections.abc import Callable, Sequence
from operator import itemgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.errors import BadInput
from models.taste import actions
from models.taste.learnt.calibrated import FORM_NAMES, PARTS, Calibrated, Candidates, Watch
from models.taste.lists.explore import draws
from models.taste.lists.ordering import Ordering
from models.taste.readers.past import Past, came, pasts_of
from models.taste.readers.users import UserRows
from streams.observe.quality import BlendMetrics
from streams.sections.taste import Blend

log = logging.getLogger(__name__)

I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

SALT = 3  # the sample knows nothing of what is explored, measured or interleaved
AT_ONCE = 32  # choices of one group that are learnt from, at most
TEMPORARY = ".tmp"
ORDER = ".order"
READ_BACK = 4_000  # events of a partition, about 0.6 ms each
READERS_AT_ONCE = 256
SOLVE_S = 1.0  # from one look at whether a solution is due to the next

Anonymous = Callable[[I32, Sequence[str]], bool | Bools]
"""Of readers by partition and name: of whom nothing is looked at."""


class Learning:
    """The weights, the lists that wait for a choice, and the file of the weights."""

    def __init__(
        self,
        settings: Blend,
        users: UserRows,
        without_profile: Anonymous,
        file: Path | None,
        interval_s: float,
        metrics: BlendMetrics,
        ordering: Ordering | None = None,
    ) -> None:
        """`file` is None where weights are not kept; those of `ordering` lie beside it."""
        self.weights, self.ordering = Calibrated(settings.rate), ordering
        self._sample = settings.sample
        self._watch = Watch(settings.remembered)
        self._users, self._without_profile = users, without_profile
        self._files: dict[Path, Calibrated | Ordering] = {} if file is None else {file: self.weights}
        if file is not None and ordering is not None:
            self._files[file.with_name(file.name + ORDER)] = ordering
        self._interval_s, self._metrics = interval_s, metrics
        self._kept: dict[Path, bytes] = {}
        self._until_ms: dict[int, int] = {}  # partition -> newest event that `ordering` knows
        if ordering is not None:
            users.freed.append(ordering.known.forget)
        users.freed.append(self._watch.forget)
        self._show()

    def bytes_used(self) -> int:
        """Of the lists that wait, and of what is known."""
        return self._watch.bytes_used() + (0 if self.ordering is None else self.ordering.bytes_used())

    def shown(self, made: Sequence[Candidates], rows: I32, partitions: I32, offsets: I64) -> None:
        """Lists were made for readers by row, caused by the records at `partitions`, `offsets`; (n,) each. Which of
        them are remembered does not depend on how they were batched."""
        if not self._sample or not made:
            return
        sampled = rows[draws(partitions, offsets, SALT) < self._sample]
        for one in made:
            self._watch.show(one, np.flatnonzero(np.isin(one.rows, sampled)).tolist())

    def chosen(self, rows: I32, items: I32, kinds: I8, partitions: I32, applied: Bools) -> None:
        """Learn from a group of n events in their order, now that they are folded: each reader's first choice."""
        if not len(self._watch):
            return
        places = np.flatnonzero(applied & actions.is_positive(kinds) & self._watch.waiting(rows))
        if not len(places):
            return
        _, first = np.unique(rows[places], return_index=True)
        places = places[np.sort(first)]
        names = [self._users.names[row] for row in rows[places].tolist()]
        places = places[~np.broadcast_to(self._without_profile(partitions[places], names), len(places))]
        late, places = places[AT_ONCE:], places[:AT_ONCE]
        self._watch.forget(rows[late].tolist())
        self._metrics.left_out(len(late))
        outcomes = [
            self._watch.chose(row, item)
            for row, item in zip(rows[places].tolist(), items[places].tolist(), strict=True)
        ]
        self._metrics.chosen(sum(outcomes), len(outcomes) - sum(outcomes))
        self._show()

    def follow(self, rows: I32, items: I32, kinds: I8, at_ms: I64, partitions: I32, applied: Bools) -> None:
        """The same events say what goes with what, once the choices among them are learnt."""
        if self.ordering is None:
            return
        names = [self._users.names[row] for row in rows.tolist()]
        applied = applied & ~np.broadcast_to(self._without_profile(partitions, names), len(rows))
        for past, item, then_ms in came(self._users, rows, items, kinds, at_ms, applied):
            self.ordering.known.learn(past, item, then_ms)
        for partition in np.unique(partitions[applied]).tolist():
            newest = int(at_ms[applied & (partitions == partition)].max())
            self._until_ms[partition] = max(newest, self._until_ms.get(partition, 0))

    async def read_back(self, partition: int) -> None:
        """Know what the rings of a partition that was just read say: their newest READ_BACK events, the oldest first,
        that are not known from before."""
        if self.ordering is None:
            return
        rows = self._users.rows_of(self._users.users(partition), partition)
        names = [self._users.names[row] for row in rows.tolist()]
        off = self._without_profile(np.full(len(rows), partition, np.int32), names)
        rows = rows[~np.broadcast_to(off, len(rows))]
        since_ms = self._until_ms.get(partition, 0)
        newest: list[tuple[int, int, Past, int]] = []
        for start in range(0, len(rows), READERS_AT_ONCE):
            some = rows[start : start + READERS_AT_ONCE]
            for past in pasts_of(self._users, some[self._users.newest_at_ms[some] > since_ms]):
                times = past.times_ms.tolist()
                newest += [
                    (then, past.reader, past, nth) for nth, then in enumerate(times) if then > since_ms
                ]
            newest = heapq.nlargest(READ_BACK, newest, key=itemgetter(0))
            await asyncio.sleep(0)
        for done, (then_ms, reader, past, nth) in enumerate(sorted(newest, key=itemgetter(0, 1, 3))):
            before = Past(reader, past.items[:nth], past.times_ms[:nth])
            self.ordering.known.learn(before, int(past.items[nth]), then_ms)
            self._until_ms[partition] = max(then_ms, self._until_ms.get(partition, 0))
            if done % AT_ONCE == 0:
                await asyncio.sleep(0)

    @property
    def goes_on(self) -> bool:
        """Whether `run` has something to do."""
        return bool(self._files) or self.ordering is not None

    async def run(self) -> None:
        """Write the weights down every `interval_s`, and solve what is due in a thread, for ever."""
        async with asyncio.TaskGroup() as tasks:
            if self._files:
                tasks.create_task(self._keep_on())
            if self.ordering is not None:
                tasks.create_task(self._solve_on(self.ordering))

    async def _keep_on(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self.keep()

    async def _solve_on(self, ordering: Ordering) -> None:
        """A solution is taken up between two groups, as another revision of a model is."""
        while True:
            await asyncio.sleep(SOLVE_S)
            await self.solve(ordering)

    async def solve(self, ordering: Ordering) -> None:
        """What foretells what, anew, if that is due."""
        unsolved = ordering.known.unsolved()
        if unsolved is not None:
            ordering.known.use(await asyncio.to_thread(unsolved.solved))

    async def keep(self) -> None:
        """Write the weights down, if they are kept and have changed."""
        for file, learnt in self._files.items():
            value = learnt.encode()
            if value == self._kept.get(file):
                continue
            try:
                await asyncio.to_thread(_write, file, value)
            except OSError as error:
                log.warning("the weights of lists cannot be kept in %s: %s", file, error)
                continue
            self._kept[file] = value

    async def start(self) -> None:
        """Take up the weights of the process before. A file that is damaged or of another version is passed over."""
        for file, learnt in self._files.items():
            try:
                learnt.load(await asyncio.to_thread(file.read_bytes))
            except FileNotFoundError:
                continue
            except (BadInput, OSError) as error:
                log.warning("the weights of lists in %s are not used: %s", file, error)
                continue
            self._kept[file] = learnt.encode()
        self._show()

    def _show(self) -> None:
        for part, weights in zip(PARTS, self.weights.weights().tolist(), strict=True):
            for form, weight in zip(FORM_NAMES, weights, strict=True):
                self._metrics.weight(part, form, weight)


def _write(path: Path, value: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + TEMPORARY)
    temporary.write_bytes(value)
    temporary.replace(path)
