"""What one small group costs: the clicks agent's own `decide`, without a broker, by the number of clicks in the group.

At a steady rate a worker is handed some hundred groups of 8 to 16 clicks a second, so what a group costs whatever its
size decides. Fold, lists with reasons, and the bytes of lists and states are in the figure; reading, decoding and
sending are not. The sizes take turns, so that drift meets all alike.
"""

import statistics
from dataclasses import dataclass
from typing import Any

import numpy as np

from streams.agents.base import Services
from streams.agents.clicks import ClicksAgent
from streams.bench.child import Job, cpu_s
from streams.bench.cluster import settings_for
from streams.bench.feed import STEP_MS, ClickFeed, Drawn, draw, keys, values
from streams.bench.itemtable import item_rows
from streams.clock import SystemClock
from streams.codecs import decode_poll
from streams.effects import Header
from streams.feed.records import partition_of
from streams.observe.catalogue import Metrics
from streams.transport.batch import PartitionBatch
from streams.transport.durable import Submission
from streams.transport.ledger import Entry
from streams.worker import collector
from streams.worker.allocator import keep_freed_memory

SIZES = (1, 4, 8, 16, 32, 64)
HISTORY = 20  # clicks a reader had before
AT_ONCE = 1000
ROUNDS = 15


@dataclass(slots=True)
class _Read:
    """A record as the consumer hands it over."""

    offset: int
    timestamp: int
    key: bytes
    value: bytes
    headers: tuple[Header, ...] = ()


async def groups_job(job: Job) -> dict[str, Any]:
    """Processor milliseconds of a group by its size, `job.clicks` of each; the median of the rounds."""
    feed = _Feed(job)
    agent = feed.agent()
    at_once = min(AT_ONCE, feed.users)
    for _ in range(HISTORY * feed.users // at_once):
        agent.decide(feed.group(at_once))
    keep_freed_memory()  # as a worker does
    collector.settle()
    took_ms: dict[int, list[float]] = {size: [] for size in SIZES}
    for _ in range(ROUNDS):
        for size in SIZES:
            groups = [feed.group(size) for _ in range(max(1, job.clicks // (ROUNDS * size)))]
            began_s = cpu_s()
            for group in groups:
                agent.decide(group)
            took_ms[size].append((cpu_s() - began_s) * 1000 / len(groups))
    return {str(size): round(statistics.median(took), 3) for size, took in took_ms.items()}


class _Feed:
    """Groups of clicks by different readers, one after another in time."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.users, self._items, self._seed = (int(job.options[name]) for name in ("users", "items", "seed"))
        self._random = np.random.default_rng(self._seed)
        self._start_ms = SystemClock().wall_ms() - 3_600_000
        self._done = 0
        self._offsets = [0] * job.partitions

    def agent(self) -> ClicksAgent:
        """An agent that has the item table and knows no reader."""
        job = self._job
        settings = settings_for(job.bootstrap, "", job.partitions, taste=dict(job.options["taste"]))
        inference: Any = None  # the clicks agent asks for none
        agent = ClicksAgent(Services(settings, SystemClock(), Metrics("bench"), inference, "bench"))
        rows = item_rows(self._items, job.partitions, self._seed, self._start_ms - 86_400_000)
        for cut in range(0, len(rows), AT_ONCE):
            agent.apply_table([_Read(0, 0, key, value) for key, value in rows[cut : cut + AT_ONCE]])
        return agent

    def group(self, size: int) -> list[Submission[Any]]:
        """The next one, decoded."""
        start_ms = self._start_ms + STEP_MS * self._done
        drawn = draw(ClickFeed(size, self.users, self._items, self._seed + self._done, start_ms))
        readers = self._random.choice(self.users, size, replace=False)
        drawn = Drawn(readers, drawn.items, drawn.kinds, drawn.at_ms)
        self._done += size
        parts: dict[int, list[_Read]] = {}
        for key, value, at_ms in zip(keys(drawn), values(drawn), drawn.at_ms.tolist(), strict=True):
            partition = partition_of(key, self._job.partitions)
            parts.setdefault(partition, []).append(_Read(self._offsets[partition], at_ms, key, value))
            self._offsets[partition] += 1
        poll = sorted(parts.items())
        entry = Entry(0, 0, 0)  # nothing is committed
        return [
            Submission(PartitionBatch("clicks", partition, records, entry, 0.0), columns)
            for (partition, records), columns in zip(poll, decode_poll(poll, 86_400_000), strict=True)
        ]
