"""`headrace bench recovery`: how fast a partition's readers come back from the changelog, on one core.

`recover` reads a partition through the real client, as a new owner does; `load` is its part without the client: rows
decoded and put into columns, in polls as large as the client's.
"""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.taste.actions import CODES, weights_of
from models.taste.items import ItemIndex
from models.taste.users import UserRows
from streams import admin
from streams.allocator import keep_freed_memory
from streams.bench.child import Job, cpu_s, peak_rss_mb
from streams.bench.cluster import produce, settings_for
from streams.bench.place import Place, contend
from streams.bench.result import Result, Row, machine, median_row
from streams.clock import SystemClock
from streams.errors import Fatal
from streams.settings import Settings
from streams.state.batches import CHUNK_RECORDS
from streams.state.changelog import Apply, ChangelogReader, Tell
from streams.state.users import UserState
from streams.topics import TASTE_CHANGELOG, prefixed

WITHIN_S = 180.0
EVENTS_A_READER = 10
POLL_ROWS = CHUNK_RECORDS


@dataclass(frozen=True, slots=True)
class Plan:
    """How many readers' rows are read back."""

    readers: int = 100_000
    repetitions: int = 1
    seed: int = 1


def run(place: Place, plan: Plan, say: Callable[[str], None]) -> Result:
    """Raises Fatal when a run reads back another number of rows than were written."""
    say(f"writing {plan.readers:,} readers' rows")
    prefix = f"b{uuid.uuid4().hex[:8]}-"
    settings = settings_for(place.bootstrap, prefix, 1)
    asyncio.run(_write(settings, plan))
    found: dict[str, list[Row]] = {}
    for _ in range(plan.repetitions):
        for case in ("recover", "load"):
            say(case)
            job = {"bootstrap": place.bootstrap, "prefix": prefix, "clicks": plan.readers, "partitions": 1}
            answer = contend(place, f"streams.bench.recovery:{case}_job", job, WITHIN_S, case)
            if answer["records"] != plan.readers:
                raise Fatal(f"{case} read {answer['records']} of {plan.readers} rows")
            found.setdefault(case, []).append({"case": case, **answer})
    rows = [median_row(rows, "records_per_s") for rows in found.values()]
    return Result("recovery", machine(place.described()), rows)


async def recover_job(job: Job) -> dict[str, Any]:
    """A partition's readers, as a new owner reads them."""
    keep_freed_memory()
    settings = settings_for(job.bootstrap, job.prefix, 1)
    reader = ChangelogReader(settings.kafka, TASTE_CHANGELOG)
    await reader.replay(0, lambda keys, values: None)  # connected, and in the broker's page cache
    state = UserState(settings.taste, ItemIndex(dim=settings.taste.dim))
    clock, used_s = SystemClock(), cpu_s()
    began_s = clock.monotonic_s()
    records = await state.recover(0, reader)
    figures = _figures(records, clock.monotonic_s() - began_s, cpu_s() - used_s, len(state.rows))
    await reader.stop()
    return figures


async def load_job(job: Job) -> dict[str, Any]:
    """The same rows, already in memory."""
    keep_freed_memory()
    settings = settings_for(job.bootstrap, job.prefix, 1)
    keys, values = _rows(settings, job.clicks, 1)
    state = UserState(settings.taste, ItemIndex(dim=settings.taste.dim))
    reader = _InMemory(keys, values)
    clock, used_s = SystemClock(), cpu_s()
    began_s = clock.monotonic_s()
    records = await state.recover(0, reader)  # type: ignore[arg-type]
    return _figures(records, clock.monotonic_s() - began_s, cpu_s() - used_s, len(state.rows))


class _InMemory:
    def __init__(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        self._keys = keys
        self._values = values

    async def replay(self, partition: int, apply: Apply, tell: Tell | None = None) -> int:
        for start in range(0, len(self._keys), POLL_ROWS):
            apply(self._keys[start : start + POLL_ROWS], self._values[start : start + POLL_ROWS])
        return len(self._keys)


def _figures(records: int, seconds: float, used_s: float, readers: int) -> dict[str, Any]:
    return {
        "records": records,
        "readers": readers,
        "seconds": round(seconds, 3),
        "records_per_s": round(records / seconds),
        "cpu_s_per_million": round(used_s / records * 1e6, 2),
        "rss_mb": peak_rss_mb(),
    }


def _rows(settings: Settings, readers: int, seed: int) -> tuple[list[bytes], list[bytes]]:
    """Rows of readers with some ten events each."""
    random, taste = np.random.default_rng(seed), settings.taste
    items = ItemIndex(dim=taste.dim)
    rows = UserRows(items, taste.half_lives_s, taste.ring)
    users = [f"user-{n:07d}" for n in range(readers)]
    known = items.lookup([f"item-{n}" for n in range(4000)])
    kinds = np.full(readers, CODES["click"], np.int8)
    weights = weights_of(kinds, np.full(readers, np.nan))
    for n in range(EVENTS_A_READER):
        at_ms = 1_767_225_600_000 + random.integers(0, 86_400_000, readers)
        offsets = np.arange(n * readers, (n + 1) * readers)
        rows.fold(users, random.choice(known, readers), kinds, weights, at_ms, offsets)
    return [user.encode() for user in users], rows.encode(rows.rows_of(users))


async def _write(settings: Settings, plan: Plan) -> None:
    await admin.apply(settings)
    keys, values = _rows(settings, plan.readers, plan.seed)
    topic = prefixed(settings.kafka.topic_prefix, TASTE_CHANGELOG)
    await produce(settings.kafka.bootstrap, topic, 0, keys, values)
