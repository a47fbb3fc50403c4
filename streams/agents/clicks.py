"""Clicks: fold groups of batches into the readers' rows, publish fresh lists, tell the item agent what followed what.

A group over many partitions is one fold (`streams.taste.folding`) and one ranking (`streams.taste.maker`). A reader's
last click of the group makes the list. What that asks for is `streams.taste.publishing`'s; this file says what is
folded and what is refused.
"""

import asyncio
import logging
from collections.abc import Sequence

import numpy as np
from faust.streams import Stream
from numpy.typing import NDArray

from models.compiled import warm_up
from models.taste.index import ItemIndex
from models.taste.items.table import ItemTable
from models.taste.readers.layout import fence_of
from streams.agents.base import Agent, Services
from streams.codecs import decode_poll
from streams.columns import ClickColumns
from streams.effects import Effects, Emit
from streams.events import MAX_ID_BYTES
from streams.observe.quality import QualityMetrics
from streams.privacy.keeper import KEY_BYTES, PrivacyKeeper
from streams.query.readers import Shelf
from streams.secrecy.files import secret
from streams.state.catalogue import CatalogueState
from streams.state.changelog import TableFollower
from streams.state.following import Following
from streams.state.users import UserState
from streams.taste.beside import Beside
from streams.taste.experiments import Experiments
from streams.taste.folding import ClickFold
from streams.taste.maker import ListMaker, list_settings
from streams.taste.publishing import Publisher, TooLarge, causes
from streams.taste.quality import LiveQuality, Served
from streams.taste.revisions import Revisions
from streams.taste.transitions import TransitionWriter
from streams.topology.topics import CLICKS, ITEM_TABLE, ITEMS, TASTE_CHANGELOG
from streams.transport.batch import Poll, Record
from streams.transport.consumer import Profile
from streams.transport.durable import Submission

log = logging.getLogger(__name__)


class ClicksAgent(Agent[ClickColumns]):
    """Topic `clicks` to `recommendations`, `transitions` and `taste-changelog`."""

    name = "clicks"
    topic = CLICKS

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        settings = services.settings
        self._taste = settings.taste
        self._items = ItemIndex(dim=self._taste.dim, max_items=self._taste.max_items)
        key_file = settings.privacy.key_file
        key = secret(key_file, "privacy.key_file") if key_file is not None else b""
        self._state = UserState(self._taste, self._items, key[:KEY_BYTES])
        self._table = ItemTable(self._items, self._taste.item_half_life_s)
        self._catalogue = CatalogueState(self._items, services.metrics)
        self._experiments = Experiments(
            settings.experiments,
            self._taste.list,
            list_settings,
            settings.quality.remembered_lists,
            services.metrics,
        )
        self._revisions = Revisions(self._taste.sequence, self._state.rows, self._revision)
        self._beside = Beside(settings, self._state.rows, self._without_profile, services.metrics)
        self._lists = ListMaker(
            self._taste,
            self._state.rows,
            self._table,
            self._catalogue.rows,
            self._experiments,
            self._revisions,
            self._without_profile,
            self._beside,
            services.metrics,
            services.clock,
            services.tracing,
        )
        self._changelog = self.changelog_reader(TASTE_CHANGELOG, self._state.rows.layout.name, fence_of)
        tables = ((ITEM_TABLE, self.apply_table), (ITEMS, self._catalogue.apply))
        followers = [
            TableFollower(settings.kafka, topic, settings.topics.partitions, apply) for topic, apply in tables
        ]
        self._following = Following(followers, self._stopped_following)
        self._transitions = TransitionWriter(self._items, settings.topics.partitions)
        self._fold = ClickFold(
            self._taste,
            self._state.rows,
            self._items,
            self._live_quality(),
            self._beside,
            self._experiments,
            self._transitions,
            services.metrics,
            self.metrics,
        )
        self._publish = Publisher(
            self._state.rows,
            self._lists,
            self._transitions if self._taste.transitions else None,
            settings.kafka.max_message_bytes,
            services.metrics,
            self.metrics,
        )
        self._future_ms = int(self._taste.future_s * 1000)
        self._privacy = PrivacyKeeper(
            self._state, settings.topics.partitions, services.clock, self._forget_beside_state, self.metrics
        )
        self._show_sizes()

    def _live_quality(self) -> LiveQuality | None:
        """None where there are no lists, or where nothing of a reader is to be looked at."""
        if self._taste.output != "lists" or self._taste.list.profile == "off":
            return None
        served = Served(
            self._state.rows,
            self._table,
            self._catalogue.rows,
            self._lists.settings,
            self._taste.list_size,
            self._lists.further,
            self._beside.learning.weights,
            self._beside.learning.ordering,
            self._beside.was_barred,
        )
        services = self.services
        return LiveQuality(
            services.settings.quality,
            served,
            self._experiments,
            QualityMetrics(services.metrics),
            services.clock,
        )

    # -- life

    def profile(self) -> Profile:
        reader = self.services.settings.reader
        return Profile(
            max_records=reader.max_poll_records,
            fetch_wait_ms=reader.fetch_max_wait_ms,
            batches_in_flight=reader.batches_in_flight,
            pace_ms=reader.fetch_pace_ms,
        )

    async def start(self) -> None:
        """Follow item table and catalogue; the group is joined once all that was there has been read. Before that the
        loops are compiled: no click waits for it."""
        await asyncio.to_thread(warm_up)
        if self._taste.output == "lists":
            await self._revisions.start()
            await self._beside.learning.start()
            await self._following.start((self._revisions, self._beside.learning, self._beside.training))

    def _stopped_following(self, error: BaseException | None) -> None:
        """Lists from a table that stands still would be wrong without a word: an unreadable row stops the worker."""
        assert self.commit is not None
        self.commit.fail(error)

    async def stop(self) -> None:
        await self._following.stop()
        await self._beside.learning.keep()
        await self._changelog.stop()

    async def recover(self, partition: int) -> None:
        tell = self.recoveries.begin(partition)
        self.metrics.recovered_rows(await self._state.recover(partition, self._changelog, tell))
        await self._beside.read_back(partition)
        self.recoveries.end(partition)

    def healing(self, partition: int) -> Emit | None:
        return self._state.healing(partition)

    def _forget_beside_state(self, user: str, partition: int) -> None:
        """Wherever else this worker has something of a reader who is to be forgotten."""
        self._experiments.forget(user)
        self._changelog.spoiled(partition)

    def _without_profile(
        self, partitions: NDArray[np.int32], users: Sequence[str]
    ) -> bool | NDArray[np.bool_]:
        """Whose lists are made without a profile: everybody's, or those of readers who wished it."""
        if self._taste.list.profile == "off":
            return True
        wished = self._privacy.anonymous(partitions, users)
        return False if wished is None else wished

    def drop(self, partition: int) -> None:
        super().drop(partition)
        self._state.drop(partition)
        self._experiments.drop(partition)
        self._changelog.leave(partition)

    def largest_row(self) -> tuple[str, int]:
        return TASTE_CHANGELOG, self._state.rows.layout.largest_bytes + MAX_ID_BYTES

    def apply_table(self, records: Sequence[Record]) -> None:
        """Item-table records, in their order."""
        changed = self._table.apply([(r.key or b"").decode() for r in records], [r.value for r in records])
        for item in changed.tolist():
            author = self._table.contents.author_of(item)
            if author:
                self._catalogue.rows.uploaded(item, author)
        self.services.metrics.contents.set(len(self._table.contents))
        self.services.metrics.contents_beyond.set(self._table.contents.beyond)

    # -- records

    async def run(self, stream: "Stream[Poll]") -> None:
        async for event in stream.noack().events():
            batches = [batch for batch in event.value if not batch.lost]
            decoded = decode_poll([(batch.partition, batch.records) for batch in batches], self._future_ms)
            for batch, columns in zip(batches, decoded, strict=True):
                self.submit(batch, columns)

    def decide(self, group: Sequence[Submission[ClickColumns]]) -> Effects:
        effects = Effects()
        parts = sorted((s.work for s in group), key=lambda columns: columns.partition)
        if any(part.orders for part in parts):
            too_large = self._decide_in_turn(effects, parts)
        else:
            too_large = self._decide_clicks(effects, parts)
        for submission in group:
            batch, rejected = submission.batch, submission.work.rejected
            if rejected and not self._state.register.empty(batch.partition):
                rejected = self._privacy.letters_allowed(batch.partition, rejected)
            if too_large:
                rejected = [*rejected, *causes(batch, too_large)]
            if rejected:
                self.reject(effects, batch.partition, rejected)
        return effects

    def _decide_in_turn(self, effects: Effects, parts: Sequence[ClickColumns]) -> TooLarge:
        """As `_decide_clicks`, with privacy orders between the clicks: each has its place in the log."""
        too_large: TooLarge = {}
        for part in parts:
            for clicks, placed in part.between_orders():
                too_large |= self._decide_clicks(effects, [clicks])
                if placed is not None:
                    self._privacy.obey(effects, part.partition, placed)
        return too_large

    def _decide_clicks(self, effects: Effects, parts: Sequence[ClickColumns]) -> TooLarge:
        """`parts` are sorted by partition, and within one in the order they were read. Returns the clicks whose lists
        no broker would take: they count all the same, their lists are left out."""
        register = self._state.register
        parts = [
            part if register.empty(part.partition) else self._privacy.allowed(part)
            for part in parts
            if len(part)
        ]
        parts = [part for part in parts if len(part)]
        if not parts:
            return {}
        moved = self._fold(parts)
        return self._publish(effects, moved) if len(moved.folded.rows) else {}

    def shelf(self) -> Shelf:
        """What queries are answered from: this worker's own readers, and all items."""
        return Shelf(self._state.rows, self._items, self._table, self._lists.now)

    def _revision(self, result: str) -> None:
        self.services.metrics.sequence_revisions.labels(result).inc()

    def _show_sizes(self) -> None:
        """Gauges that are asked when somebody looks: a group of clicks comes every few milliseconds."""
        metrics, rows, items = self.services.metrics, self._state.rows, self._items
        metrics.users.set_function(lambda: len(rows))
        metrics.user_bytes.set_function(
            lambda: rows.bytes_used() + self._revisions.bytes_used() + self._beside.bytes_used()
        )
        metrics.items.set_function(lambda: len(items) - 1)  # without the unknown one
        metrics.items_beyond.set_function(lambda: items.beyond)
