"""`headrace bench recovery`: how fast a partition's readers come back from the changelog, on one core.

`recover` reads a partition through the real client, as a new owner does; `load` is its part without the client: rows
decoded and put into columns, in chunks as large as the client's. `restart` reads a log that has not been compacted, in
which each row was written several times, and `restart_from_snapshot` the same with a local snapshot of most of it. All
with the worker's settings of the allocator.
"""

import asyncio
import tempfile
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from models.taste.actions import CODES, weights_of
from models.taste.index import ItemIndex
from models.taste.readers.layout import fence_of
from models.taste.readers.users import UserRows
from streams.bench.child import Job, cpu_s, peak_rss_mb
from streams.bench.cluster import produce, settings_for
from streams.bench.place import Place, contend
from streams.bench.result import Result, Row, machine, median_row, ratio
from streams.clock import SystemClock
from streams.errors import Fatal
from streams.settings import Settings
from streams.state.batches import CHUNK_RECORDS, BatchFetcher
from streams.state.changelog import Apply, ChangelogReader, Tell
from streams.state.snapshots import Snapshots
from streams.state.users import UserState
from streams.topology import admin
from streams.topology.topics import TASTE_CHANGELOG, prefixed
from streams.worker.allocator import keep_freed_memory

WITHIN_S = 180.0
EVENTS_A_READER = 10
POLL_ROWS = CHUNK_RECORDS
PARTITIONS = 2
ONCE, OFTEN = 0, 1  # the partition with one row a reader, and the one whose rows were written again and again
REWRITTEN = 8
SINCE_SNAPSHOT = 0.05  # of the readers: rows written after the snapshot


@dataclass(frozen=True, slots=True)
class Plan:
    """How many readers' rows are read back."""

    readers: int = 100_000
    repetitions: int = 1
    seed: int = 1

    @property
    def restarting(self) -> int:
        """Readers of the log that has not been compacted."""
        return max(self.readers // 4, 1)


def run(place: Place, plan: Plan, say: Callable[[str], None]) -> Result:
    """Raises Fatal when a run reads back another number of readers than were written."""
    say(f"writing {plan.readers:,} readers' rows, and {plan.restarting:,} readers' {REWRITTEN} times")
    prefix = f"b{uuid.uuid4().hex[:8]}-"
    settings = settings_for(place.bootstrap, prefix, PARTITIONS)
    asyncio.run(_write(settings, plan))
    with tempfile.TemporaryDirectory(prefix="headrace-snapshots-") as folder:
        options = {"folder": folder}
        contend_with = partial(_contend, place, prefix)
        contend_with("snapshot", plan.restarting, options)
        found: dict[str, list[Row]] = {}
        for _ in range(plan.repetitions):
            for case, readers, given in (
                ("recover", plan.readers, {}),
                ("load", plan.readers, {}),
                ("restart", plan.restarting, {}),
                ("restart_from_snapshot", plan.restarting, options),
            ):
                say(case)
                answer = contend_with("restart" if given else case, readers, given)
                found.setdefault(case, []).append({"case": case, **answer})
    rows = [median_row(rows, "records_per_s") for rows in found.values()]
    shorter = ratio(rows, "seconds", "restart_from_snapshot", "restart")
    return Result("recovery", machine(place.described()), rows, {"snapshot_vs_log": shorter})


def _contend(place: Place, prefix: str, job: str, readers: int, options: dict[str, str]) -> Row:
    told = {"bootstrap": place.bootstrap, "prefix": prefix, "clicks": readers, "options": options}
    answer = contend(place, f"streams.bench.recovery:{job}_job", told, WITHIN_S, job)
    if answer.get("readers", readers) != readers:
        raise Fatal(f"{job} read {answer['readers']} of {readers} readers")
    return answer


async def recover_job(job: Job) -> dict[str, Any]:
    """A partition's readers, as a new owner reads them."""
    return await _recovered(job, ONCE)


async def restart_job(job: Job) -> dict[str, Any]:
    """The same, of a long log; from a snapshot where a folder is named."""
    return await _recovered(job, OFTEN)


async def snapshot_job(job: Job) -> dict[str, Any]:
    """Write the snapshot, then the rows since."""
    settings = settings_for(job.bootstrap, job.prefix, PARTITIONS)
    snapshots = _snapshots(job, settings)
    assert snapshots is not None
    fetcher = BatchFetcher(settings.kafka, prefixed(settings.kafka.topic_prefix, TASTE_CHANGELOG))
    await fetcher.start()
    await snapshots.advance(fetcher, OFTEN)
    await fetcher.stop()
    keys, values = _rows(settings, max(int(job.clicks * SINCE_SNAPSHOT), 1), 1)
    topic = prefixed(settings.kafka.topic_prefix, TASTE_CHANGELOG)
    await produce(settings.kafka.bootstrap, topic, OFTEN, keys, values)
    return {"snapshot_bytes": snapshots.path(OFTEN).stat().st_size}


async def _recovered(job: Job, partition: int) -> dict[str, Any]:
    keep_freed_memory()
    settings = settings_for(job.bootstrap, job.prefix, PARTITIONS)
    state = UserState(settings.taste, ItemIndex(dim=settings.taste.dim))
    reader = ChangelogReader(settings.kafka, TASTE_CHANGELOG, _snapshots(job, settings))
    await reader.replay(partition, lambda keys, values: None)  # connected, and in the page cache
    clock, used_s = SystemClock(), cpu_s()
    began_s = clock.monotonic_s()
    records = await state.recover(partition, reader)
    figures = _figures(records, clock.monotonic_s() - began_s, cpu_s() - used_s, len(state.rows))
    await reader.stop()
    return figures


def _snapshots(job: Job, settings: Settings) -> Snapshots | None:
    if "folder" not in job.options:
        return None
    topic = prefixed(settings.kafka.topic_prefix, TASTE_CHANGELOG)
    folder = Path(job.options["folder"])
    return Snapshots(folder, topic, "bench", fence_of, SystemClock(), _must_not_fail)


def _must_not_fail(outcome: str) -> None:
    if outcome in ("failed", "ignored"):
        raise Fatal(f"snapshot {outcome}")


async def load_job(job: Job) -> dict[str, Any]:
    """The same rows, already in memory."""
    keep_freed_memory()
    settings = settings_for(job.bootstrap, job.prefix, PARTITIONS)
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
    await produce(settings.kafka.bootstrap, topic, ONCE, keys, values)
    keys, values = keys[: plan.restarting], values[: plan.restarting]
    for _ in range(REWRITTEN):
        await produce(settings.kafka.bootstrap, topic, OFTEN, keys, values)
