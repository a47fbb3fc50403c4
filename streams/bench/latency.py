"""`headrace bench latency`: from a click's send to its output in a consumer's hands, at a steady rate.

One process sends and consumes (on the broker's core), the contender has a core of its own. The feed is an open loop:
click n is due at start + n / rate and is sent whether or not earlier ones came back; its time begins when it is sent
(`feed_late_p99_ms`: how long after it was due). A click that a later one of the same reader supersedes within one group
has no output and no latency. The worker is `headrace worker` itself. The last row has no worker at all: the clicks
themselves come back, which takes what the broker and its clients take. Feed and consumer take 0.15 of the broker's
core; free to run on either core they changed no row by more than runs differ.
"""

import asyncio
import contextlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams.bench.clicks import LISTS, PARTITIONS, TOUCHED, Say, publish_table
from streams.bench.cluster import settings_for
from streams.bench.feed import ClickFeed, Drawn, draw, keys, values
from streams.bench.place import Child, Place
from streams.bench.result import Result, Row, machine
from streams.clock import SystemClock
from streams.errors import Fatal
from streams.feed.records import partition_of
from streams.state.batches import BatchFetcher, heads
from streams.topology import admin
from streams.topology.topics import CLICKS, RECOMMENDATIONS, TASTE_CHANGELOG, prefixed
from streams.transport.client import close
from streams.transport.patience import be_patient

WARM_S = {"kafka": 8.0, "embedded": 2.0}
"""A JVM has to warm up. The embedded broker looks through all batches it keeps at each fetch, so that its log is kept
short; a row says how it began (`first_…`) and how long the log became (`log_batches`)."""
FIRST_S = 5.0
READY_WITHIN_S = 60.0
PROBE_WAIT_MS = 4  # the embedded broker looks for records every half of it
TAIL_S = 3.0  # outputs that come later are lost to the figures, and counted as missing


@dataclass(frozen=True, slots=True)
class Plan:
    """How fast and how long."""

    rate_per_s: float = 1000.0
    seconds: float = 30.0
    users: int = 50_000
    items: int = 4_000
    seed: int = 1
    partitions: int = PARTITIONS
    linger_ms: int = 0  # of the feed's producer


@dataclass(frozen=True, slots=True)
class Case:
    """One row: a worker with these `[taste]` settings, the bare loop when None, nobody when `alone`."""

    name: str
    taste: Mapping[str, Any] | None
    delivery: str = "at_least_once"
    alone: bool = False


CASES = (
    Case("headrace", TOUCHED),
    Case("headrace_lists", LISTS),
    Case("bare_loop", None),
    Case("broker_alone", None, alone=True),
)


def run(place: Place, plan: Plan, say: Say) -> Result:
    """All cases, one after another."""
    rows = []
    for case in CASES:
        say(f"{case.name}: {plan.rate_per_s:g} clicks/s for {plan.seconds:g} s")
        rows.append(run_case(place, plan, case))
    topics = {"partitions": plan.partitions, "feed_linger_ms": plan.linger_ms}
    return Result("latency", machine(place.described() | topics), rows)


def run_case(place: Place, plan: Plan, case: Case) -> Row:
    """One row."""
    return asyncio.run(_one(place, plan, case))


async def _one(place: Place, plan: Plan, case: Case) -> Row:
    prefix = f"b{uuid.uuid4().hex[:8]}-"
    await admin.apply(settings_for(place.bootstrap, prefix, plan.partitions))
    start_ms = SystemClock().wall_ms() - 86_400_000
    warm_s = WARM_S[place.lane]
    clicks = int(plan.rate_per_s * (warm_s + plan.seconds))
    feed = ClickFeed(clicks, plan.users, plan.items, plan.seed, start_ms)
    if case.taste is not None and case.taste["output"] == "lists":
        await publish_table(place, prefix, feed, plan.partitions)
    with _contender(place, prefix, case, plan.partitions) as child:
        async with Probe(
            place.bootstrap, prefix, draw(feed), plan, CLICKS if case.alone else RECOMMENDATIONS
        ) as probe:
            await probe.until_answered(child, READY_WITHIN_S)
            await probe.play(0, int(plan.rate_per_s * warm_s), plan.rate_per_s)
            _check(child)
            cpu_s, began_s = child.cpu_s if child else 0.0, SystemClock().monotonic_s()
            first = int(plan.rate_per_s * warm_s)
            await probe.play(first, clicks, plan.rate_per_s)
            took_s = SystemClock().monotonic_s() - began_s
            cpu_s = child.cpu_s - cpu_s if child else 0.0
            await asyncio.sleep(TAIL_S)
            _check(child)
            figures = probe.figures(first, first + int(plan.rate_per_s * FIRST_S))
            figures |= {
                "clicks_per_s": round((clicks - first) / took_s),
                "cpu_cores_used": round(cpu_s / took_s, 2) if child else None,
                "rss_mb": child.rss_mb if child else None,
                "log_batches": await _log_batches(place, prefix, plan.partitions),
            }
        if child:
            child.stop()
    return {"case": case.name, **figures}


def _contender(
    place: Place, prefix: str, case: Case, partitions: int
) -> contextlib.AbstractContextManager[Child | None]:
    if case.alone:
        return contextlib.nullcontext()
    return Child(case.name, _command(place, prefix, case, partitions), place.cores.contender)


def _check(child: Child | None) -> None:
    if child:
        child.check()


async def _log_batches(place: Place, prefix: str, partitions: int) -> int:
    """How many record batches the broker keeps of what was clicked, listed and learnt."""
    found = 0
    for topic in (CLICKS, RECOMMENDATIONS, TASTE_CHANGELOG):
        fetcher = BatchFetcher(
            settings_for(place.bootstrap, prefix, partitions).kafka, prefixed(prefix, topic)
        )
        await fetcher.start()
        for partition in range(partitions):
            at, end = await fetcher.bounds(partition)
            while at < end:
                fetched = await fetcher.fetch(partition, at)
                found += sum(1 for _ in heads(fetched.data))
                at = fetched.next_offset
        await fetcher.stop()
    return found


def _command(place: Place, prefix: str, case: Case, partitions: int) -> list[str]:
    if case.taste is None:
        job = {
            "bootstrap": place.bootstrap,
            "prefix": prefix,
            "clicks": 0,
            "partitions": partitions,
            "options": {"forever": True},
        }
        return ["streams.bench.child", "streams.bench.bare:profile_job", json.dumps(job)]
    sets = {
        "kafka.bootstrap": place.bootstrap,
        "kafka.topic_prefix": prefix,
        "kafka.group": f"{prefix}group",
        "kafka.session_timeout_s": 6,
        "kafka.heartbeat_interval_s": 2,
        "topics.partitions": partitions,
        "observe.port": 0,
        "worker.delivery": case.delivery,
        **{f"taste.{name}": str(value).lower() for name, value in case.taste.items()},
    }
    arguments = [part for name, value in sets.items() for part in ("--set", f"{name}={value}")]
    return ["streams", *arguments, "worker", "--agents", "clicks"]


class _Output(msgspec.Struct):
    at: int  # unique to a click: the feed's event time


class Probe:
    """Sends clicks on time and notes when the output of each arrives in topic `answers`."""

    def __init__(self, bootstrap: str, prefix: str, drawn: Drawn, plan: Plan, answers: str) -> None:
        self._clock = SystemClock()
        self._topic, self._output = f"{prefix}clicks", prefixed(prefix, answers)
        self._keys, self._values = keys(drawn), values(drawn)
        self._count = plan.partitions
        self._partitions = [partition_of(key, plan.partitions) for key in self._keys]
        self._of_at = {at: n for n, at in enumerate(drawn.at_ms.tolist())}
        self._sent_s = np.full(len(self._keys), np.nan)
        self._due_s = np.full(len(self._keys), np.nan)
        self._seen_s = np.full(len(self._keys), np.nan)
        self._first_at = int(drawn.at_ms[0])
        self._answered = asyncio.Event()
        self._producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=plan.linger_ms)
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            group_id=None,
            fetch_max_wait_ms=PROBE_WAIT_MS,
            fetch_min_bytes=1,
            isolation_level="read_committed",
        )
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Probe":
        be_patient(self._consumer._client)
        await self._producer.start()
        await self._consumer.start()
        tps = [TopicPartition(self._output, partition) for partition in range(self._count)]
        self._consumer.assign(tps)
        for tp in tps:
            self._consumer.seek(tp, 0)
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._watching is not None:
            self._watching.cancel()
        await close(self._producer)
        await close(self._consumer)

    async def until_answered(self, child: Child | None, within_s: float) -> None:
        """Send an early click of the first reader until an output comes back. Raises Fatal."""
        deadline_s = self._clock.monotonic_s() + within_s
        early = values_at(self._first_at - 3_600_000)
        while not self._answered.is_set():
            _check(child)
            if self._clock.monotonic_s() > deadline_s:
                raise Fatal(f"no output came back within {within_s:g} s")
            await self._producer.send_and_wait(self._topic, early, key=b"early", partition=0)
            await asyncio.sleep(0.2)

    async def play(self, first: int, end: int, rate_per_s: float) -> None:
        """Send clicks first..end - 1, each when it is due."""
        clock, start_s = self._clock.monotonic_s, self._clock.monotonic_s()
        for n in range(first, end):
            due_s = start_s + (n - first) / rate_per_s
            wait_s = due_s - clock()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            self._due_s[n], self._sent_s[n] = due_s, clock()
            await self._producer.send(
                self._topic, self._values[n], key=self._keys[n], partition=self._partitions[n]
            )

    def figures(self, first: int, early: int) -> dict[str, Any]:
        """Over clicks from `first` on that have an output; also of those before `early` alone."""
        latency_ms = (self._seen_s[first:] - self._sent_s[first:]) * 1000
        late_ms = (self._sent_s[first:] - self._due_s[first:]) * 1000
        seen = latency_ms[np.isfinite(latency_ms)]
        if not len(seen):
            raise Fatal("no output came back")
        begun = latency_ms[: early - first]
        begun = begun[np.isfinite(begun)]
        return {
            "outputs": len(seen),
            "p50_ms": round(float(np.percentile(seen, 50)), 1),
            "p99_ms": round(float(np.percentile(seen, 99)), 1),
            "first_p50_ms": round(float(np.percentile(begun, 50)), 1) if len(begun) else None,
            "first_p99_ms": round(float(np.percentile(begun, 99)), 1) if len(begun) else None,
            "max_ms": round(float(seen.max()), 1),
            "feed_late_p99_ms": round(float(np.percentile(late_ms, 99)), 1),
        }

    async def _watch(self) -> None:
        decode = msgspec.json.Decoder(_Output).decode
        while True:
            found = await self._consumer.getmany(timeout_ms=200)
            now_s = self._clock.monotonic_s()
            for records in found.values():
                for record in records:
                    self._answered.set()
                    n = self._of_at.get(decode(record.value).at)
                    if n is not None and np.isnan(self._seen_s[n]):
                        self._seen_s[n] = now_s


def values_at(at_ms: int) -> bytes:
    """A click that is not part of the feed."""
    return f'{{"id":"early","user":"early","item":"item-0000","kind":"click","at":{at_ms}}}'.encode()
