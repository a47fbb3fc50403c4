"""What a list must not hold, as items for everybody and as pairs of a reader and an item. NumPy alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.taste.items.catalogue import Catalogue
from models.taste.items.table import ItemTable
from models.taste.lists import filters
from models.taste.lists.request import ListSettings, Requests
from models.taste.readers.users import UserRows

I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Barred:
    """What a list must not hold."""

    everywhere: I64 | Bools  # items that nobody is shown: by index, or a mask (I,)
    pairs: tuple[I64, ...]  # of (P, 2) place in the batch and item

    def joined(self) -> I64:
        """The pairs as one array."""
        some = [one for one in self.pairs if len(one)]
        return some[0] if len(some) == 1 else np.concatenate(some or self.pairs)

    def all_pairs(self, size: int) -> I64:
        """As one array, of the first `size` items alone."""
        every = self.joined()
        return every[(every[:, 1] >= 0) & (every[:, 1] < size)]

    def free(self, items: I64, batch: int) -> Bools:
        """(B, P) whether pairs leave these distinct items (P,) to each reader."""
        found = np.ones((batch, len(items)), np.bool_)
        order = np.argsort(items)
        for one in self.pairs:
            at = np.minimum(np.searchsorted(items, one[:, 1], sorter=order), len(items) - 1)
            hit = items[order[at]] == one[:, 1] if len(items) else np.zeros(len(one), np.bool_)
            found[one[hit, 0], order[at[hit]]] = False
        return found

    def mask(self, size: int) -> Bools:
        """(I,) of `everywhere`."""
        if self.everywhere.dtype == np.bool_:
            return self.everywhere.view(np.bool_)
        found = np.zeros(size, np.bool_)
        found[self.everywhere] = True
        return found


def barred_items(table: ItemTable, catalogue: Catalogue, now_ms: int, settings: ListSettings) -> Bools:
    """Items (I,) that nobody is shown. Without a catalogue: those that have no row yet."""
    if catalogue.empty and not settings.only_catalogued:
        return table.prepared(now_ms, settings.rank.popularity_power).barred
    size = len(table.items)
    there = catalogue.known[:size]
    if not settings.only_catalogued:
        there = there | table.present[:size]
    barred = ~there | ~catalogue.available[:size] | table.withheld[:size]
    barred |= filters.too_old(catalogue.published_ms[:size], now_ms, settings.max_age_ms)
    if settings.blocked_authors:
        blocked = catalogue.author_ids(settings.blocked_authors)
        barred |= np.isin(catalogue.author[:size], blocked[blocked >= 0])
    return barred


def barred_pairs(catalogue: Catalogue, users: UserRows, requests: Requests, repeat: bool) -> tuple[I64, ...]:
    """What single readers are not shown: pairs (place, item) of their rings, of what they hid and of their
    wishes."""
    wishes = requests.wishes
    return (
        filters.had(users, requests.rows, repeat, requests.anonymous),
        wishes.excluded,
        filters.of_authors(wishes.blocked, catalogue),
        *filters.hidden(users, requests.rows, catalogue, requests.anonymous),
    )
