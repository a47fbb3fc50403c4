"""How large a cluster must be, on paper: arithmetic over the sizes that the code itself has. Asks no broker.

What is measured rather than counted is an assumption, named in `Assumed` and printed with the result: clicks a second
of one worker, bytes of a click and of a list. Network is counted where it leaves or enters a worker; brokers carry what
is written once more for each further replica.
"""

import math
from dataclasses import dataclass
from typing import Any

from models.taste.index import ItemIndex
from models.taste.items.itemrows import largest_bytes
from models.taste.readers.layout import StateLayout
from models.taste.readers.users import UserRows
from streams.agents.items import KEEP
from streams.settings import Settings
from streams.topology.topics import DAY_MS

GIB = 1 << 30
SECONDS_A_DAY = 86_400
ROUND_TO = 12  # partitions divide among 2, 3, 4, 6 and 12 workers
FEWEST_PARTITIONS = 12
SAMPLE_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Assumed:
    """What was measured elsewhere, or is a matter of taste."""

    worker_clicks_per_s: float = (
        20_000.0  # lists of 20 from 4,000 items, one core: 30,400 measured; a third held back
    )
    click_bytes: int = 200  # JSON, key and CloudEvents headers
    list_bytes: int = 2_600  # 20 items with reasons
    transition_bytes: int = 140
    name_bytes: int = 24  # of an item
    content_bytes: int = 0  # of an item's content vector: 0 where none is made
    growth: float = 2.0  # partitions for so many times the workers: their number cannot change later
    replication: int = 3


@dataclass(frozen=True, slots=True)
class Asked:
    """The load."""

    users: int
    clicks_per_s: float
    items: int = 1_000_000


def plan(asked: Asked, settings: Settings, assumed: Assumed | None = None) -> dict[str, Any]:
    """Figures with units in their names. Raises ValueError for a load that is none."""
    if asked.users < 1 or asked.items < 1 or not 0 < asked.clicks_per_s < math.inf:
        raise ValueError("users, items and clicks a second must be more than 0")
    assumed = assumed or Assumed()
    workers = math.ceil(asked.clicks_per_s / assumed.worker_clicks_per_s)
    wanted = max(FEWEST_PARTITIONS, workers * assumed.growth)
    partitions = math.ceil(wanted / ROUND_TO) * ROUND_TO
    row_bytes, memory_bytes = _user_bytes(settings)
    item_bytes = (
        largest_bytes(KEEP, partitions, assumed.name_bytes, assumed.content_bytes) + assumed.name_bytes
    )
    rates = _rates(asked, assumed, row_bytes)
    written = sum(rate for name, rate in rates.items() if name != "clicks_in")
    return {
        "workers": workers,
        "partitions": partitions,
        "users_per_partition": math.ceil(asked.users / partitions),
        "state_row_bytes": row_bytes,
        "memory_per_user_bytes": memory_bytes,
        "user_memory_gib": _gib(asked.users * memory_bytes),
        "user_memory_per_worker_gib": _gib(asked.users * memory_bytes / workers),
        "item_row_bytes": item_bytes,
        "item_table_gib": _gib(asked.items * item_bytes),
        "changelog_compacted_gib": _gib(asked.users * row_bytes),
        "changelog_mib_per_s": round(rates["changelog"] / (1 << 20), 1),
        "changelog_written_a_day_gib": _gib(rates["changelog"] * SECONDS_A_DAY),
        "clicks_kept_gib": _gib(rates["clicks_in"] * 7 * DAY_MS / 1000 * assumed.replication),
        "network_into_workers_mib_per_s": round(rates["clicks_in"] / (1 << 20), 1),
        "network_out_of_workers_mib_per_s": round(written / (1 << 20), 1),
        "network_per_worker_mib_per_s": round((written + rates["clicks_in"]) / workers / (1 << 20), 1),
        "broker_writes_mib_per_s": round((written + rates["clicks_in"]) * assumed.replication / (1 << 20), 1),
    }


def _rates(asked: Asked, assumed: Assumed, row_bytes: int) -> dict[str, float]:
    """Bytes a second; a list and a row for every click, the most: clicks of one reader in a group share them."""
    return {
        "clicks_in": asked.clicks_per_s * assumed.click_bytes,
        "lists": asked.clicks_per_s * assumed.list_bytes,
        "changelog": asked.clicks_per_s * row_bytes,
        "transitions": asked.clicks_per_s * assumed.transition_bytes,
    }


def _user_bytes(settings: Settings) -> tuple[int, int]:
    """Of one reader who hid nothing (8 bytes more for each that is hidden): the row in the changelog once the ring is
    full, and the memory of a worker."""
    taste = settings.taste
    rows = UserRows(ItemIndex(dim=taste.dim), half_lives_s=taste.half_lives_s, ring=taste.ring)
    rows.reserve(SAMPLE_ROWS)
    name_bytes = 190  # as `UserRows.bytes_used` counts a name and its place in the index
    layout: StateLayout = rows.layout
    return layout.plain_bytes, rows.bytes_used() // len(rows.fence) + name_bytes


def _gib(size_bytes: float) -> float:
    return round(size_bytes / GIB, 1)
