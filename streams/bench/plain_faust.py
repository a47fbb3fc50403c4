"""Plain Faust as its guide shows it: a typed agent, a table with its changelog, one send a click.

In-memory table (faster than RocksDB), everything else Faust's defaults but for what makes it start and end quickly.
The state is the smallest honest one: one vector of 64 numbers, counts by kind, the last 20 items; the whole
value is written to the changelog at each click, as Faust does.
"""

import asyncio
import math
import random
import sys
from collections.abc import Callable
from typing import Any

import faust

from streams.bench.child import Job, Stopwatch
from streams.bench.cluster import Committed

DIM, RECENT = 64, 20
RATE = -math.log(2) / 3600e3
POLL_S = 0.005


class Click(faust.Record, serializer="json"):
    """The event, as a Faust user declares it."""

    id: str
    user: str
    item: str
    kind: str
    at: int
    dwell_s: float | None = None


class Moved(faust.Record, serializer="json"):
    """The small output."""

    id: str
    user: str
    at: int


def app_of(job: Job) -> faust.App:
    """Faust's defaults but for what makes it start and end quickly."""
    return faust.App(
        f"{job.prefix}faust",
        broker=f"kafka://{job.bootstrap}",
        store="memory://",
        topic_partitions=job.partitions,
        topic_replication_factor=1,
        topic_disable_leader=True,
        web_enabled=False,
        autodiscover=False,
        broker_session_timeout=6,
        broker_heartbeat_interval=2,
    )


async def profile_job(job: Job) -> dict[str, Any]:
    """The profile job in the usual way."""
    app, watch, done = app_of(job), Stopwatch(), 0
    clicks = app.topic(job.topic, key_type=str, value_type=Click, key_serializer="raw")
    output = app.topic(job.output, key_type=str, value_type=Moved, key_serializer="raw")
    users = app.Table(f"{job.prefix}users", default=dict, partitions=job.partitions)
    code = random.Random(1)  # an item's code: the same numbers for all, the work is what counts
    codes = [code.choice((-1.0, 1.0)) for _ in range(DIM)]

    async def take(stream: Any) -> None:
        nonlocal done
        async for click in stream:
            watch.start()
            state = users[click.user]
            keep = math.exp(RATE * max(0, click.at - state.get("at", click.at)))
            vector = state.get("vector") or [0.0] * DIM
            counts = state.get("counts", {})
            counts[click.kind] = counts.get(click.kind, 0) + 1
            users[click.user] = {
                "at": click.at,
                "vector": [old * keep + new for old, new in zip(vector, codes, strict=True)],
                "counts": counts,
                "recent": [*state.get("recent", ()), click.item][-RECENT:],
            }
            await output.send(key=click.user, value=Moved(id=click.id, user=click.user, at=click.at))
            done += 1

    app.agent(clicks)(take)
    figures = await to_the_end(app, job, watch, lambda: done, job.topic)
    some = list(users.values())[:200]
    return figures | {
        "users": len(users),
        "outputs": done,
        "state_bytes_per_user": round(sum(map(_bytes_of, some)) / max(1, len(some))),
    }


async def typed_agent(job: Job) -> dict[str, Any]:
    """A typed agent that only counts: what reading costs."""
    app, watch, done = app_of(job), Stopwatch(), 0

    async def take(stream: Any) -> None:
        nonlocal done
        async for _ in stream:
            watch.start()
            done += 1

    app.agent(app.topic(job.topic, key_type=str, value_type=Click, key_serializer="raw"))(take)
    return await to_the_end(app, job, watch, lambda: done, job.topic)


async def to_the_end(
    app: faust.App, job: Job, watch: Stopwatch, done: Callable[[], int], topic: str
) -> dict[str, Any]:
    """Start it, wait for the last click, then flush and commit at once: its own interval is seconds long."""
    app.finalize()
    async with Committed(job.bootstrap, app.conf.id, topic, job.partitions) as offsets:
        await app.start()
        while done() < job.clicks:  # noqa: ASYNC110 - an event would be one more thing to do a click
            await asyncio.sleep(POLL_S)
        await app.producer.flush()
        await app.consumer.commit()
        await offsets.reaches(job.clicks)
        return watch.figures(done())


def _bytes_of(state: dict[str, Any]) -> int:
    size = sys.getsizeof
    held = size(state) + size(state["vector"]) + size(state["counts"]) + size(state["recent"])
    return held + sum(map(size, state["vector"]))
