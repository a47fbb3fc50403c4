"""The pure parts of a list as a contender: what the clicks agent does between decoding and encoding, timed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.taste import actions
from models.taste.index import ItemIndex
from models.taste.items.catalogue import Catalogue
from models.taste.items.table import ItemTable
from models.taste.lists.explore import draws
from models.taste.lists.pipeline import lists
from models.taste.lists.request import ListSettings, Requests
from models.taste.readers.fold import Folded
from models.taste.readers.transitions import transitions
from models.taste.readers.users import UserRows
from streams.bench.child import Job, cpu_s, peak_rss_mb
from streams.bench.feed import ClickFeed, Drawn, draw, item_name, user_name
from streams.bench.itemtable import item_rows
from streams.clock import SystemClock
from streams.taste.transitions import WINDOW
from streams.taste.written import Writer
from streams.worker import collector
from streams.worker.allocator import keep_freed_memory

START_MS = 1_700_000_000_000
HISTORY = 20  # clicks a reader had before
TOP = 20
FOLD_TOGETHER = 1024


class _World:
    """Readers with a history, a filled item table, the clicks to come."""

    def __init__(self, job: Job) -> None:
        items, users, seed = (int(job.options[name]) for name in ("items", "users", "seed"))
        self.index = ItemIndex()
        self.users = UserRows(self.index)
        self.table = ItemTable(self.index)
        self.catalogue = Catalogue(self.index)
        passes = max(1, 20_000 // items)
        rows = item_rows(items, job.partitions, seed, START_MS - 86_400_000, passes)
        for cut in range(0, len(rows), FOLD_TOGETHER):
            part = rows[cut : cut + FOLD_TOGETHER]
            self.table.apply([key.decode() for key, _ in part], [value for _, value in part])
        drawn = draw(ClickFeed(job.clicks, users, items, seed, START_MS))
        random = np.random.default_rng(seed)
        distinct = random.permutation(users)[: job.clicks]
        drawn = Drawn(np.resize(distinct, job.clicks), drawn.items, drawn.kinds, drawn.at_ms)
        before = draw(ClickFeed(HISTORY * len(distinct), users, items, seed + 1, START_MS - 3_600_000))
        past = Drawn(np.repeat(distinct, HISTORY), before.items, before.kinds, before.at_ms)
        self.offset = 0
        for cut in range(0, len(past.users), FOLD_TOGETHER):
            self.fold(_Named.of(past, cut, cut + FOLD_TOGETHER))
        self.clicks = drawn

    def fold(self, part: "_Named") -> Folded:
        """The agent's update: readers' rows, and what followed what."""
        items = self.index.lookup(part.items)
        kinds = np.full(len(items), actions.CODES["click"], np.int8)
        weights = np.ones(len(items), np.float32)
        offsets = np.arange(self.offset, self.offset + len(items))
        self.offset += len(items)
        folded = self.users.fold(part.users, items, kinds, weights, part.at_ms, offsets, WINDOW)
        transitions(folded, items, kinds, weights, part.at_ms, offsets, 0)
        return folded


@dataclass(frozen=True, slots=True)
class _Named:
    """Clicks as decoding leaves them."""

    users: list[str]
    items: list[str]
    at_ms: NDArray[np.int64]

    @classmethod
    def of(cls, drawn: Drawn, start: int, stop: int) -> "_Named":
        part = slice(start, stop)
        users = [user_name(user) for user in drawn.users[part].tolist()]
        items = [item_name(item) for item in drawn.items[part].tolist()]
        return cls(users, items, drawn.at_ms[part])


async def lists_job(job: Job) -> dict[str, Any]:
    """A list for every click: groups of clicks of different readers, lists of `together` at a time."""
    world, settings, clock = _World(job), ListSettings(), SystemClock()
    keep_freed_memory()  # as a worker does
    together, with_names = int(job.options["together"]), bool(job.options["named"])
    at_once = min(FOLD_TOGETHER, int(job.options["users"])) if together > 1 else 1
    starts = range(0, job.clicks, at_once)
    collector.settle()
    writer = Writer(world.index.names)
    groups = [_Named.of(world.clicks, start, start + at_once) for start in starts]
    warm = len(starts) // 10
    took_ms: list[float] = []
    began_s, used_s, listed, first = 0.0, 0.0, 0, 0
    for nth, start in enumerate(starts):
        if nth == warm:
            began_s, used_s, first = clock.monotonic_s(), cpu_s(), start
        before_s = clock.monotonic_s()
        part = groups[nth]
        rows = world.fold(part).rows
        numbers = draws(np.zeros(len(rows), np.int32), np.arange(start, start + len(rows)))
        requests = Requests(rows, numbers)
        now_ms = int(part.at_ms[-1])
        for cut in range(0, len(rows), together):
            asked = requests.part(cut, cut + together)
            found = lists(world.table, world.catalogue, world.users, asked, now_ms, TOP, settings).lists
            if with_names:
                writer.items(found)
            listed += int((found.items >= 0).sum())
        took_ms.append((clock.monotonic_s() - before_s) * 1000)
    made = job.clicks - first
    wall_s, used_s = clock.monotonic_s() - began_s, cpu_s() - used_s
    figures = {
        "clicks": made,
        "clicks_per_s": round(made / wall_s),
        "clicks_per_cpu_s": round(made / used_s),
        "places_filled": round(listed / (TOP * job.clicks), 3),
        "state_bytes_per_user": round(world.users.bytes_used() / len(world.users)),
        "rss_mb": peak_rss_mb(),
    }
    if together == 1:
        figures |= {
            "p50_ms": round(float(np.percentile(took_ms[warm:], 50)), 3),
            "p99_ms": round(float(np.percentile(took_ms[warm:], 99)), 3),
        }
    return figures


async def memory_job(job: Job) -> dict[str, Any]:
    """Readers with full rings: `clicks` of them. Resident memory is of the whole process, the item table included."""
    job.options["users"] = 1
    world = _World(Job(job.bootstrap, job.prefix, 1, job.partitions, options=job.options))
    users, empty_mb, clock = UserRows(world.index), peak_rss_mb(), SystemClock()
    began_s, at_once = clock.monotonic_s(), 256
    random = np.random.default_rng(int(job.options["seed"]))
    for first in range(0, job.clicks, at_once):
        names = [f"user-{n:07d}" for n in range(first, min(first + at_once, job.clicks))]
        count = len(names) * users.ring
        items = random.integers(1, int(job.options["items"]), count).astype(np.int32)
        kinds, weights = np.full(count, actions.CODES["click"], np.int8), np.ones(count, np.float32)
        at_ms = START_MS + np.arange(count, dtype=np.int64)
        rows = np.repeat(users.rows_of(names), users.ring)
        users.fold_rows(rows, items, kinds, weights, at_ms, np.arange(count))
    took_s = clock.monotonic_s() - began_s
    return {
        "users": len(users),
        "state_bytes_per_user": round(users.bytes_used() / len(users)),
        "rss_bytes_per_user": round((peak_rss_mb() - empty_mb) * 2**20 / len(users)),
        "rss_mb": peak_rss_mb(),
        "folds_per_s": round(len(users) * users.ring / took_s),
    }
