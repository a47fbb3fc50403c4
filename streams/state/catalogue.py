"""The catalogue of this worker: topic `items`, followed in full and kept as columns.

Every worker reads all of it, so a bad record is not dead-lettered (each worker would): it is counted, named in the
log, and what was known of its item stands.
"""

import logging
from collections.abc import Sequence

from models.taste.index import ItemIndex
from models.taste.items.catalogue import Catalogue, Entry
from streams.codecs import decode_items
from streams.events import Item
from streams.observe.catalogue import Metrics
from streams.transport.batch import Record

log = logging.getLogger(__name__)


class CatalogueState:
    """`rows` as the records so far describe them."""

    def __init__(self, items: ItemIndex, metrics: Metrics) -> None:
        self.rows = Catalogue(items)
        self._metrics = metrics

    def apply(self, records: Sequence[Record]) -> None:
        """Take records of one partition, in their order."""
        found, rejected = decode_items(records)
        if found:
            self.rows.apply(
                [name for name, _ in found], [entry_of(item) if item else None for _, item in found]
            )
        for one in rejected:
            self._metrics.catalogue_bad.labels(one.reason).inc()
        if rejected:
            first = min(rejected, key=lambda one: one.record.offset)
            log.warning(
                "%d records of the catalogue are none, the first is at offset %d: %s (%s)",
                len(rejected),
                first.record.offset,
                first.message,
                first.reason,
            )
        self._metrics.catalogue_records.inc(len(found))
        self._metrics.catalogue_items.set(len(self.rows))
        self._metrics.catalogue_beyond.set(self.rows.beyond)


def entry_of(item: Item) -> Entry:
    """What lists need of an event."""
    published_ms = item.at if item.published_at is None else item.published_at
    return Entry(item.author, published_ms, item.topics, item.available)
