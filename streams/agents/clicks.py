"""Clicks: fold groups of batches into the readers' rows, publish fresh lists, tell the item agent what followed what.

All batches of a group are folded before one list is made, so a reader's last click of the group makes the list; lists
of all partitions are ranked together. The numbers are in `models.taste`; this file says what goes where.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from faust.streams import Stream
from numpy.typing import NDArray

from models.taste.actions import weights_of
from models.taste.items import ItemIndex
from models.taste.rank import LAYERS, Lists, RankSettings, rank
from models.taste.table import ItemTable
from models.taste.users import Folded, UserRows
from streams.agents.base import Agent, Services
from streams.codecs import ClickColumns, decode_clicks, joined
from streams.effects import Effects, Emit
from streams.events import RECOMMENDATION, SOURCE, Because, Reason, Recommendation, Recommended
from streams.state.changelog import ChangelogReader, TableFollower
from streams.state.users import UserState
from streams.topics import CLICKS, ITEM_TABLE, RECOMMENDATIONS, TASTE_CHANGELOG
from streams.transitions import WINDOW, TransitionWriter
from streams.transport.batch import PartitionBatch
from streams.transport.commit import Submission
from streams.transport.reader import Profile

log = logging.getLogger(__name__)

MODEL = "taste-v1"
RANK_TOGETHER = 64  # lists of one matrix product: larger ones leave the cache


class Touched(msgspec.Struct):
    """The small output of `taste.output = "touched"`: who moved, and by which click."""

    id: str
    user: str
    at: int
    because: Because


@dataclass(slots=True)
class _Moved:
    """One partition's part of a group: its rows, what was folded, and from where."""

    rows: UserRows
    columns: ClickColumns
    items: NDArray[np.int32]
    weights: NDArray[np.float32]
    folded: Folded

    @property
    def users(self) -> list[str]:
        """Who moved, in the order of `folded.rows`."""
        names = self.rows.names
        return [names[row] or "" for row in self.folded.rows.tolist()]


class ClicksAgent(Agent[ClickColumns]):
    """Topic `clicks` to `recommendations`, `transitions` and `taste-changelog`."""

    name = "clicks"
    topic = CLICKS

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        settings = services.settings
        self._taste = settings.taste
        self._partitions = settings.topics.partitions
        self._items = ItemIndex(dim=self._taste.dim, max_items=self._taste.max_items)
        self._state = UserState(self._taste, self._items)
        self._table = ItemTable(self._items)
        self._rank = RankSettings()
        self._changelog = ChangelogReader(settings.kafka, TASTE_CHANGELOG)
        self._follower = TableFollower(settings.kafka, ITEM_TABLE, self._partitions, self._apply_table)
        self._following: asyncio.Task[None] | None = None
        self._transitions = (
            TransitionWriter(self._items, self._partitions) if self._taste.transitions else None
        )
        self._future_ms = int(self._taste.future_s * 1000)

    # -- life

    def profile(self) -> Profile:
        reader = self.services.settings.reader
        return Profile(
            max_records=reader.max_poll_records,
            fetch_wait_ms=reader.fetch_max_wait_ms,
            fetch_min_bytes=reader.fetch_min_bytes,
            batches_in_flight=reader.batches_in_flight,
        )

    async def start(self) -> None:
        """Follow the item table; the group is joined once all that was there has been read."""
        if self._taste.output == "lists":
            self._following = asyncio.create_task(self._follower.run())
            await self._follower.caught_up.wait()

    async def stop(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait([self._following], timeout=1.0)
        await self._changelog.stop()

    async def recover(self, partition: int) -> None:
        self.metrics.recovered_rows(await self._state.recover(partition, self._changelog))
        self._measure()

    def drop(self, partition: int) -> None:
        self._state.drop(partition)

    def _apply_table(self, keys: Sequence[bytes], values: Sequence[bytes | None]) -> None:
        self._table.apply([key.decode() for key in keys], values)

    # -- records

    async def run(self, stream: "Stream[PartitionBatch]") -> None:
        async for event in stream.noack().events():
            batch: PartitionBatch = event.value
            if not batch.lost:
                self.submit(batch, decode_clicks(batch.partition, batch.records, self._future_ms))

    def decide(self, group: Sequence[Submission[ClickColumns]]) -> Effects:
        effects = Effects()
        moved = [self._fold(columns) for columns in _by_partition(group)]
        moved = [m for m in moved if len(m.folded.rows)]
        if self._taste.output == "lists":
            self._publish_lists(effects, moved)
        else:
            self._publish_touched(effects, moved)
        if self._transitions is not None:
            for m in moved:
                effects.outputs += self._transitions.emits(m.columns, m.items, m.weights, m.folded)
        for m in moved:
            effects.changelog.append(
                Emit(
                    TASTE_CHANGELOG,
                    m.columns.partition,
                    keys=[user.encode() for user in m.users],
                    values=m.rows.encode(m.folded.rows),
                )
            )
        for submission in group:
            self.reject(effects, submission.batch.partition, submission.work.rejected)
        self._measure()
        return effects

    def _fold(self, columns: ClickColumns) -> _Moved:
        rows = self._state.rows(columns.partition)
        items = self._items.lookup(columns.items)
        weights = weights_of(columns.kinds, columns.dwell_s)
        folded = rows.fold(
            columns.users,
            items,
            columns.kinds,
            weights,
            columns.at_ms,
            columns.offsets,
            window=WINDOW if self._transitions is not None else 0,
        )
        repeated = len(columns) - int(np.count_nonzero(folded.applied))
        if repeated:
            self.metrics.repeated(repeated)
        return _Moved(rows, columns, items, weights, folded)

    def _publish_touched(self, effects: Effects, moved: Sequence[_Moved]) -> None:
        for m in moved:
            columns, partition = m.columns, m.columns.partition
            users = m.users
            values = [
                _encode(Touched(f"{partition}-{offset}", user, at, Because(CLICKS, partition, offset)))
                for user, offset, at in zip(
                    users,
                    columns.offsets[m.folded.last].tolist(),
                    columns.at_ms[m.folded.last].tolist(),
                    strict=True,
                )
            ]
            effects.outputs.append(
                Emit(RECOMMENDATIONS, partition, keys=[user.encode() for user in users], values=values)
            )
            self.metrics.published(RECOMMENDATIONS, len(values))

    def _publish_lists(self, effects: Effects, moved: Sequence[_Moved]) -> None:
        for m in moved:
            rows, users = m.folded.rows, m.users
            values: list[bytes] = []
            for start in range(0, len(rows), RANK_TOGETHER):
                part = slice(start, start + RANK_TOGETHER)
                last = m.folded.last[part]
                now_ms = int(m.columns.at_ms[last].max())
                lists = rank(self._table, m.rows, rows[part], now_ms, self._taste.list_size, self._rank)
                values += self._encoded(lists, users[part], m.columns, last.tolist())
            effects.outputs.append(
                Emit(
                    RECOMMENDATIONS,
                    m.columns.partition,
                    keys=[user.encode() for user in users],
                    values=values,
                    headers=[_HEADERS] * len(values),
                )
            )
            self.metrics.published(RECOMMENDATIONS, len(values))
            self.services.metrics.lists.inc(len(values))

    def _encoded(
        self, lists: Lists, users: Sequence[str], columns: ClickColumns, last: Sequence[int]
    ) -> list[bytes]:
        partition, offsets, at_ms = columns.partition, columns.offsets[last], columns.at_ms[last]
        ranked = _named(lists, self._items.names)
        return [
            _encode(
                Recommendation(
                    id=f"{CLICKS}-{partition}-{offset}",
                    user=user,
                    at=at,
                    model=MODEL,
                    items=items,
                    because=Because(CLICKS, partition, offset),
                )
            )
            for user, offset, at, items in zip(users, offsets.tolist(), at_ms.tolist(), ranked, strict=True)
        ]

    def _measure(self) -> None:
        self.services.metrics.users.set(self._state.users)
        self.services.metrics.user_bytes.set(self._state.memory_bytes)
        self.services.metrics.items.set(len(self._items))


_encode: Any = msgspec.json.Encoder().encode
_HEADERS = [
    ("ce_type", RECOMMENDATION.encode()),
    ("ce_source", SOURCE.encode()),
    ("ce_specversion", b"1.0"),
    ("content-type", b"application/json"),
]


def _named(lists: Lists, names: Sequence[str | None]) -> list[list[Recommended]]:
    """Lists with names and reasons. The shares of an item add up to 1, to rounding: the strongest past item,
    the rest of the history, the taste vectors, popularity."""
    scores = np.maximum(lists.scores, np.finfo(np.float32).tiny)
    shares = lists.layers / scores[:, :, None]
    place = np.maximum(lists.because, 0)
    because = np.where(lists.because >= 0, np.take_along_axis(lists.past, place, 1), -1)
    rest = shares[..., LAYERS.index("counts")] - lists.because_share
    parts = np.stack([lists.because_share, rest, shares[..., 1], shares[..., 2]], axis=2)
    columns = (lists.items, lists.scores, because, np.round(parts, 4))
    return [
        [
            Recommended(names[item] or "", round(score, 6), _reasons(past, share, names))
            for item, score, past, share in zip(*row, strict=True)
            if item >= 0
        ]
        for row in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _reasons(past: int, shares: Sequence[float], names: Sequence[str | None]) -> list[Reason]:
    reasons = [Reason("after", shares[0], names[past])] if past >= 0 else []
    reasons += [
        Reason(kind, share)
        for kind, share in zip(("history", "taste", "popularity"), shares[1:], strict=True)
        if abs(share) >= 0.0005
    ]
    return reasons


def _by_partition(group: Sequence[Submission[ClickColumns]]) -> list[ClickColumns]:
    """One set of columns a partition: its batches of the group, joined in the order they were read."""
    found: dict[int, list[ClickColumns]] = {}
    for submission in group:
        if len(submission.work):
            found.setdefault(submission.batch.partition, []).append(submission.work)
    return [joined(parts) for parts in found.values()]
