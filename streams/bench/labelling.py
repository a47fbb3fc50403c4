"""The whole way of a text as a contender: broker, agents, engine, labels; and the same texts in an offline loop."""

import asyncio
from pathlib import Path
from typing import Any

from models.types import LoadOptions
from streams.bench.child import Job, Stopwatch
from streams.bench.cluster import Committed, settings_for
from streams.bench.engine import payloads, sorted_by_length
from streams.clock import SystemClock
from streams.errors import Fatal
from streams.topology.topics import UPLOADS, prefixed
from streams.worker.app import Worker

POLL_S = 0.02
WITHIN_S = 900.0


async def worker_job(job: Job) -> dict[str, Any]:
    """A real worker's uploads agent, from the first record read to the last label committed; then, in the same
    process, the offline loop. `options`: `folder`, `dtype`, `device`, `threads`."""
    options = job.options
    settings = settings_for(
        job.bootstrap,
        job.prefix,
        job.partitions,
        worker={"agents": ("uploads",)},
        reader={"commit_interval_s": 0.2},
        media={
            "uploads": ("sentiment",),
            "threads": options["threads"],
            "dtype": options["dtype"],
            "device": options["device"],
            "kept_bytes": 0,
            "tasks": {"sentiment": {"folder": options["folder"]}},
        },
    )
    worker = Worker(settings, SystemClock())
    watch = Stopwatch()
    read, labels = worker.metrics.records.labels("uploads"), worker.metrics.labels.labels("sentiment")
    topic = prefixed(settings.kafka.topic_prefix, UPLOADS)
    async with Committed(job.bootstrap, f"{settings.kafka.group}.uploads", topic, job.partitions) as offsets:
        await worker.start()
        await _until(worker, lambda: _count(read) > 0)
        watch.start()
        await _until(worker, lambda: _count(labels) >= job.clicks)
        await offsets.reaches(job.clicks)
        figures = watch.figures(job.clicks)
    totals = worker._inference.totals["sentiment"]
    await worker.stop()
    agents = {
        "case": "agents",
        "texts": job.clicks,
        "texts_per_s": round(job.clicks / figures["seconds"], 2),
        "cpu_ms_per_text": round(figures["cpu_s_per_million"] / 1000, 3),
        "padding": round(totals.padding, 4),
        "batches": totals.batches,
    }
    return {"rows": [agents, _offline(job)]}


def _offline(job: Job) -> dict[str, Any]:
    import torch

    from models.inference.offline import warm_up
    from models.registry import task_class

    options = job.options
    torch.set_num_threads(options["threads"])
    loaded = LoadOptions(
        Path("unused"), Path(options["folder"]), device=options["device"], dtype=options["dtype"]
    )
    task = task_class("sentiment").load(loaded)
    warm_up(task)
    watch = Stopwatch()
    watch.start()
    figures = sorted_by_length(task, payloads(job.clicks, seed=1))
    used = watch.figures(job.clicks)
    return {
        "case": "offline_beside_agents",
        "texts": job.clicks,
        "texts_per_s": round(job.clicks / used["seconds"], 2),
        "cpu_ms_per_text": round(used["cpu_s_per_million"] / 1000, 3),
        **figures,
    }


async def _until(worker: Worker, condition: Any) -> None:
    for _ in range(int(WITHIN_S / POLL_S)):
        if condition():
            return
        if worker.failed.done():
            raise Fatal(f"the worker failed: {worker.failed.result()!r}")
        await asyncio.sleep(POLL_S)
    raise Fatal(f"not done within {WITHIN_S:g} s")


def _count(child: Any) -> int:
    return int(child._value.get())
