"""Privacy: what readers ask for is put between their clicks; what the clicks agent then did is completed and receipted.

    privacy event -> an order in every partition of `clicks` -> (clicks agent) -> a record without value on `privacy`
    -> dead letters removed -> receipt

Each arrow is an effect confirmed before the offset is committed: a crash repeats a step and skips none.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from faust.streams import Stream

from streams.agents.base import Agent, Services
from streams.codecs import EventDecoder, encode
from streams.effects import Effects, Emit, Header
from streams.errors import Retry
from streams.events import PRIVACY, PRIVACY_RECEIPT, SOURCE, Privacy, PrivacyReceipt
from streams.privacy.letters import erase
from streams.privacy.orders import HEADERS, Done, home_of, order_of
from streams.refusals.rejected import Rejected
from streams.topology.topics import CLICKS, PRIVACY_RECEIPTS
from streams.topology.topics import PRIVACY as TOPIC
from streams.transport.batch import PartitionBatch, Poll, Record
from streams.transport.consumer import Profile
from streams.transport.durable import Submission

log = logging.getLogger(__name__)

MAX_BYTES = 65_536
BACKOFF_S, BACKOFF_MAX_S = 0.5, 30.0
RECEIPT_HEADERS: list[Header] = [
    ("ce_type", PRIVACY_RECEIPT.encode()),
    ("ce_source", SOURCE.encode()),
    ("ce_specversion", b"1.0"),
    ("content-type", b"application/json"),
]


@dataclass(slots=True)
class PrivacyWork:
    """One batch: what is asked for, what was done and may be receipted."""

    events: list[tuple[Privacy, int]] = field(default_factory=list)  # with the record's time
    receipts: list[PrivacyReceipt] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)


class PrivacyAgent(Agent[PrivacyWork]):
    """Topic `privacy` to `clicks` and `privacy-receipts`."""

    name = "privacy"
    topic = TOPIC

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._settings = services.settings
        self._block_ms = int(services.settings.privacy.block_s * 1000)
        self._decoder = EventDecoder(Privacy, PRIVACY, MAX_BYTES)

    def profile(self) -> Profile:
        return Profile(max_records=100, fetch_wait_ms=250, batches_in_flight=4)

    async def run(self, stream: "Stream[Poll]") -> None:
        async for event in stream.noack().events():
            for batch in event.value:
                await self._take(batch)

    async def _take(self, batch: PartitionBatch) -> None:
        if batch.lost:
            return
        work = self._read([record for record in batch.records if record.value is not None])
        done = [record for record in batch.records if record.value is None]
        work.receipts = await self._completed(batch, done)
        if not batch.lost:
            self.submit(batch, work)

    def _read(self, records: Sequence[Record]) -> PrivacyWork:
        events, good, rejected = self._decoder.each(records)
        return PrivacyWork(
            [(event, record.timestamp) for event, record in zip(events, good, strict=True)], [], rejected
        )

    async def _completed(self, batch: PartitionBatch, records: Sequence[Record]) -> list[PrivacyReceipt]:
        """The receipts of what the clicks agent did, once the dead letters are gone, too."""
        found = [(record, Done.read(record.headers)) for record in records]
        done = [(record, one) for record, one in found if one is not None and record.key]
        names = {(record.key or b"").decode(errors="replace") for record, one in done if one.kind == "forget"}
        removed = await self._erased(batch, names) if names else 0
        now_ms = self.services.clock.wall_ms()
        return [
            PrivacyReceipt(
                id=f"{TOPIC}-{batch.partition}-{record.offset}",
                request=one.request,
                kind=one.kind,
                at=now_ms,
                partition=one.partition,
                had_state=one.had_state,
                dead_letters=removed if one.kind == "forget" else 0,
            )
            for record, one in done
        ]

    async def _erased(self, batch: PartitionBatch, names: set[str]) -> int | None:
        """As often as it takes: the offset waits."""
        backoff_s = BACKOFF_S
        while not batch.lost:
            try:
                return await erase(self._settings, names, self.services.clock.wall_ms())
            except Retry as error:
                log.warning("dead letters cannot be removed yet: %s", error)
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)
        return None

    def decide(self, group: Sequence[Submission[PrivacyWork]]) -> Effects:
        effects = Effects()
        partitions = self._settings.topics.partitions
        for submission in group:
            home, work = submission.batch.partition, submission.work
            orders = [
                (event.user.encode(), order_of(event, home, at_ms + self._block_ms), event.id.encode())
                for event, at_ms in work.events
            ]
            for partition in range(partitions) if orders else ():
                effects.outputs.append(
                    Emit(
                        CLICKS,
                        partition,
                        [key for key, _, _ in orders],
                        [value for _, value, _ in orders],
                        [[*HEADERS, ("ce_id", name)] for _, _, name in orders],
                        max(at_ms for _, at_ms in work.events),
                    )
                )
            for receipt in work.receipts:
                effects.outputs.append(_receipted(receipt, partitions))
            self.metrics.published(PRIVACY_RECEIPTS, len(work.receipts))
            self.reject(effects, home, work.rejected)
        return effects


def _receipted(receipt: PrivacyReceipt, partitions: int) -> Emit:
    key = receipt.request.encode()
    headers: list[Any] = [*RECEIPT_HEADERS, ("ce_id", receipt.id.encode())]
    return Emit(PRIVACY_RECEIPTS, home_of(key, partitions), [key], [encode(receipt)], [headers])
