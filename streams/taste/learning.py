"""What readers choose from their lists, learnt by this worker: the weights of `models.taste.calibrated`, live.

A sample of lists, by source offset, is remembered with what it was made of; the reader's next positive click moves the
weights. No list is made for it, so a click that is learnt from costs one step over the candidates that were there.

The weights are the worker's own. They are no part of any reader's state, so they change neither what a replay gives nor
what `verify` compares. With `state.snapshots` they are in a file there and outlive the process; without it they begin
anew with those of a plain list.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.errors import BadInput
from models.taste import actions
from models.taste.calibrated import FORM_NAMES, PARTS, Calibrated, Candidates, Watch
from models.taste.explore import draws
from models.taste.users import UserRows
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
    ) -> None:
        """`file` is None where weights are not kept."""
        self.weights = Calibrated(settings.rate)
        self._sample = settings.sample
        self._watch = Watch(settings.remembered)
        self._users, self._without_profile = users, without_profile
        self._file, self._interval_s, self._metrics = file, interval_s, metrics
        self._kept = b""
        users.freed.append(self._watch.forget)
        self._show()

    def bytes_used(self) -> int:
        """Of the lists that wait."""
        return self._watch.bytes_used()

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
            self._watch.chose(row, item, self.weights)
            for row, item in zip(rows[places].tolist(), items[places].tolist(), strict=True)
        ]
        self._metrics.chosen(sum(outcomes), len(outcomes) - sum(outcomes))
        self._show()

    @property
    def goes_on(self) -> bool:
        """Whether `run` has something to do."""
        return self._file is not None

    async def run(self) -> None:
        """Write the weights down every `interval_s`, for ever."""
        while True:
            await asyncio.sleep(self._interval_s)
            await self.keep()

    async def keep(self) -> None:
        """Write the weights down, if they are kept and have changed."""
        value = self.weights.encode()
        if self._file is None or value == self._kept:
            return
        try:
            await asyncio.to_thread(_write, self._file, value)
        except OSError as error:
            log.warning("the weights of the blend cannot be kept in %s: %s", self._file, error)
            return
        self._kept = value

    async def start(self) -> None:
        """Take up the weights of the process before. A file that is damaged or of another version is passed over."""
        if self._file is None:
            return
        try:
            self.weights.load(await asyncio.to_thread(self._file.read_bytes))
        except FileNotFoundError:
            return
        except (BadInput, OSError) as error:
            log.warning("the weights of the blend in %s are not used: %s", self._file, error)
            return
        self._kept = self.weights.encode()
        self._show()

    def _show(self) -> None:
        for part, weights in zip(PARTS, self.weights.weights().tolist(), strict=True):
            for form, weight in zip(FORM_NAMES, weights, strict=True):
                self._metrics.weight(part, form, weight)


def _write(path: Path, value: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(TEMPORARY)
    temporary.write_bytes(value)
    temporary.replace(path)
