"""Items: fold transitions into each item's row (what came before it, how popular it is), set what it is about, and
publish the rows.

At most one group commit a second, so at most one row an item a second. The item table is its own changelog: a row
holds the fence (last applied offset of the transitions partition), so a restart reads the rows back and a transition
read twice changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from faust.streams import Stream
from numpy.typing import NDArray

from models.taste.index import ItemIndex
from models.taste.items import bars, contents
from models.taste.items.itemrows import VERSION, fence_of, largest_bytes
from models.taste.items.neighbours import ItemColumns
from models.taste.readers.transitions import CONTENT, Transitions, decode
from streams.agents.base import Agent, Services
from streams.effects import Effects, Emit
from streams.events import MAX_ID_BYTES
from streams.taste.transitions import WINDOW
from streams.topology.topics import ITEM_TABLE, TRANSITIONS
from streams.transport.batch import Poll, Record
from streams.transport.consumer import Profile
from streams.transport.durable import Submission

# Predecessors an item keeps, and publishes: the row is also the agent's changelog, so none may be left out.
KEEP = 100
FETCH_EVERY_MS = 250  # one group a second: larger, rarer fetches


@dataclass(frozen=True, slots=True)
class ItemWork:
    """One batch: transitions, and content vectors and bars; each with its offsets."""

    told: Transitions
    told_at: NDArray[np.int64]
    names: list[str]
    contents: list[bytes]
    contents_at: NDArray[np.int64]


class ItemsAgent(Agent[ItemWork]):
    """Topic `transitions` to `item-table`."""

    name = "items"
    topic = TRANSITIONS
    period_s = 1.0

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        taste = services.settings.taste
        self._items = ItemIndex(dim=taste.dim, max_items=taste.max_items)
        self._partitions: dict[int, ItemColumns] = {}
        self._overtaken: dict[int, set[str]] = {}
        layout = f"item v{VERSION}, {KEEP} of {services.settings.topics.partitions} sources"
        self._changelog = self.changelog_reader(ITEM_TABLE, layout, fence_of)

    def profile(self) -> Profile:
        reader = self.services.settings.reader
        return Profile(
            max_records=reader.max_poll_records,
            fetch_wait_ms=FETCH_EVERY_MS,
            batches_in_flight=reader.batches_in_flight,
            fetch_min_bytes=reader.fetch_full_bytes,
        )

    async def run(self, stream: "Stream[Poll]") -> None:
        async for event in stream.noack().events():
            for batch in event.value:
                if not batch.lost:
                    self.submit(batch, self._work(batch.records))

    def _work(self, records: Sequence[Record]) -> ItemWork:
        """Raises BadInput: what lies here was written by workers, or the topic is another's."""
        keys = [(record.key or b"").decode() for record in records]
        values = [record.value or b"" for record in records]
        offsets = np.array([record.offset for record in records], np.int64)
        about = np.array([value[:1] == CONTENT for value in values], np.bool_)
        told, described = np.flatnonzero(~about).tolist(), np.flatnonzero(about).tolist()
        return ItemWork(
            decode([keys[i] for i in told], [values[i] for i in told], self._items, WINDOW),
            offsets[told],
            [keys[i] for i in described],
            [values[i][1:] for i in described],
            offsets[described],
        )

    def decide(self, group: Sequence[Submission[ItemWork]]) -> Effects:
        effects = Effects()
        touched: dict[int, list[NDArray[np.int64]]] = {}
        for submission in group:
            partition, work = submission.batch.partition, submission.work
            columns, parts = self._partitions[partition], touched.setdefault(partition, [])
            if work.names:
                parts.append(columns.describe(work.names, work.contents, work.contents_at))
            parts.append(columns.fold(work.told, work.told_at))
            if work.names:
                columns.pass_by(work.names, work.contents_at)
        for partition, parts in touched.items():
            columns = self._partitions[partition]
            rows = np.unique(np.concatenate(parts))
            if len(rows):
                names = columns.names(rows)
                effects.changelog.append(
                    Emit(
                        ITEM_TABLE,
                        partition,
                        keys=[name.encode() for name in names],
                        values=columns.encode(rows, KEEP),
                    )
                )
                self.metrics.published(ITEM_TABLE, len(names))
        return effects

    async def recover(self, partition: int) -> None:
        settings = self.services.settings
        columns = ItemColumns(
            self._items, settings.topics.partitions, settings.taste.item_half_life_s, keep=KEEP
        )

        overtaken: set[str] = set()

        def apply(keys: Sequence[bytes], values: Sequence[bytes | None]) -> None:
            behind = columns.load([value for value in values if value])
            overtaken.difference_update(key.decode() for key in keys)
            overtaken.update(behind)

        tell = self.recoveries.begin(partition)
        self.metrics.recovered_rows(await self._changelog.replay(partition, apply, tell))
        self.recoveries.end(partition)
        self._partitions[partition] = columns
        self._overtaken[partition] = overtaken

    def healing(self, partition: int) -> Emit | None:
        names = sorted(self._overtaken.pop(partition, ()))
        if not names:
            return None
        columns = self._partitions[partition]
        values = columns.encode(columns.rows_of(names), KEEP)
        return Emit(ITEM_TABLE, partition, [name.encode() for name in names], values)

    def drop(self, partition: int) -> None:
        super().drop(partition)
        self._partitions.pop(partition, None)
        self._overtaken.pop(partition, None)
        self._changelog.leave(partition)

    def largest_row(self) -> tuple[str, int]:
        sources = self.services.settings.topics.partitions
        content = bars.LARGEST_BYTES + contents.largest_bytes(MAX_ID_BYTES)
        return ITEM_TABLE, largest_bytes(KEEP, sources, MAX_ID_BYTES, content) + MAX_ID_BYTES

    async def stop(self) -> None:
        await self._changelog.stop()
