"""The worker as a contender: the real composition root for the profile job, the batch reader alone for transport."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from mode import CrashingSupervisor

from streams.bench.child import Job, Stopwatch
from streams.bench.cluster import Committed, settings_for
from streams.clock import SystemClock
from streams.codecs import decode_clicks
from streams.effects import Emit
from streams.errors import Fatal
from streams.observe.agents import AgentMetrics
from streams.observe.catalogue import Metrics
from streams.topology.topics import CLICKS
from streams.transport.batch import PartitionBatch
from streams.transport.consumer import Profile
from streams.transport.durable import Commit
from streams.transport.lease import Lease
from streams.transport.reader import BatchReader
from streams.worker.app import CHANNEL_BATCHES, HeadraceApp, Worker

POLL_S = 0.005
COMMIT_INTERVAL_S = 0.2  # the end of a short run would else wait for the default second


async def profile_job(job: Job) -> dict[str, Any]:
    """The clicks agent in a real worker. `options`: the settings of `[taste]`, `delivery`, and `profile`: a cProfile
    file."""
    taste = dict(job.options["taste"])
    settings = settings_for(
        job.bootstrap,
        job.prefix,
        job.partitions,
        reader={"commit_interval_s": COMMIT_INTERVAL_S, "max_poll_records": job.max_poll_records},
        taste=taste,
        worker={"delivery": job.options.get("delivery", "at_least_once")},
    )
    worker = Worker(settings, SystemClock())
    watch = Stopwatch()

    def value(name: str, **labels: str) -> int:
        return int(worker.metrics.registry.get_sample_value(f"headrace_{name}", labels) or 0)

    read, applied = worker.metrics.records.labels("clicks"), worker.metrics.applied.labels("clicks")
    async with Committed(
        job.bootstrap, f"{settings.kafka.group}.clicks", job.topic, job.partitions
    ) as offsets:
        await worker.start()
        await _until(lambda: _count(read) > 0, worker)
        watch.start()
        await _until(lambda: _count(applied) >= job.clicks, worker)
        await offsets.reaches(job.clicks)
        figures = watch.figures(_count(applied))
    users = value("users")
    figures |= {
        "users": users,
        "state_bytes_per_user": round(value("user_state_bytes") / max(1, users)),
        "outputs": value("outputs_total", agent="clicks", topic="recommendations"),
        "repeated": value("repeated_total", agent="clicks"),
    }
    await worker.stop()
    return figures


async def reader_alone(job: Job) -> dict[str, Any]:
    """The real batch reader and a Faust agent that decodes clicks into columns and calls the batch done."""
    settings = settings_for(
        job.bootstrap, job.prefix, job.partitions, reader={"commit_interval_s": COMMIT_INTERVAL_S}
    )
    app = HeadraceApp(
        "headrace-bench",
        broker=f"kafka://{job.bootstrap}",
        store="memory://",
        web_enabled=False,
        autodiscover=False,
        agent_supervisor=CrashingSupervisor,
        stream_wait_empty=False,
    )
    channel = app.channel(maxsize=CHANNEL_BATCHES)
    failed: list[BaseException] = []
    reader = BatchReader(
        app,
        topic=CLICKS,
        group=f"{settings.kafka.group}.clicks",
        channel=channel,
        agent=_Stateless(),
        kafka=settings.kafka,
        reader=settings.reader,
        profile=Profile(
            max_records=job.max_poll_records,
            fetch_wait_ms=settings.reader.fetch_max_wait_ms,
            batches_in_flight=settings.reader.batches_in_flight,
            pace_ms=settings.reader.fetch_pace_ms,
        ),
        drain_s=settings.worker.drain_s,
        clock=SystemClock(),
        observer=AgentMetrics(Metrics("bench"), "clicks", "clicks"),
        fatal=failed.append,
        lease=Lease(SystemClock(), settings.kafka.session_timeout_s),
        partitions=job.partitions,
    )
    reader.attach(_NoCommit())
    watch, done, future_ms = Stopwatch(), 0, int(settings.taste.future_s * 1000)

    async def decode(stream: Any) -> None:
        nonlocal done
        async for event in stream.noack().events():
            watch.start()
            batch: PartitionBatch
            for batch in event.value:
                done += len(decode_clicks(batch.partition, batch.records, future_ms))
                reader.finish(batch)

    app.agent(channel, name="headrace.bench", supervisor_strategy=CrashingSupervisor)(decode)
    async with Committed(
        job.bootstrap, f"{settings.kafka.group}.clicks", job.topic, job.partitions
    ) as offsets:
        await app.start()
        app.flow_control.resume()
        await app.add_runtime_dependency(reader)
        while done < job.clicks:
            if failed:
                raise failed[0]
            await asyncio.sleep(POLL_S)
        await offsets.reaches(job.clicks)
        return watch.figures(done)


class _NoCommit(Commit[None]):
    """Batches are called done without effects."""

    def submit(self, batch: PartitionBatch, work: None) -> None:
        raise RuntimeError("the benchmark's agent submits nothing")

    def fail(self, error: BaseException | None) -> None:
        raise error or RuntimeError("the benchmark's agent stopped")

    async def run(self) -> None:
        """Nothing to form."""

    async def heal(self, rows: Emit) -> None:
        """Nothing was overtaken."""

    async def reset(self, partitions: Sequence[int]) -> None:
        """Nothing is on its way."""

    async def settle(self, within_s: float) -> None:
        """Nothing is on its way."""

    async def cancel(self) -> None:
        """Nothing is on its way."""


class _Stateless:
    async def recover(self, partition: int) -> None:
        """Nothing to bring back."""

    def healing(self, partition: int) -> None:
        """Nothing was overtaken."""

    def drop(self, partition: int) -> None:
        """Nothing to forget."""


def _count(child: Any) -> int:
    return int(child._value.get())  # the public way walks the whole registry, at every poll


async def _until(condition: Callable[[], bool], worker: Worker) -> None:
    while not condition():
        if worker.failed.done():
            raise Fatal(f"the worker failed: {worker.failed.result()!r}")
        await asyncio.sleep(POLL_S)
