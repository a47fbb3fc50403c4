"""While a worker reads its partitions back, its port says which are missing and how far they are."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from bad_records import click
from running import produce, running, settings_for, until
from streams.clock import SystemClock
from streams.state import batches
from streams.state.batches import BatchFetcher, Fetched
from streams.worker.app import Worker

LANES = [
    pytest.param("embedded", marks=pytest.mark.embedded),
    pytest.param("kafka", marks=pytest.mark.kafka),
]
PAGE = "headrace_recovery_remaining_records{"


async def get(port: int, path: str) -> tuple[int, str]:
    """Status, body."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}") as reply,
    ):
        return reply.status, await reply.text()


@pytest.mark.parametrize("lane", LANES)
def test_readiness_and_metrics_name_what_is_still_missing(
    lane: str, request: pytest.FixtureRequest, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bootstrap = request.getfixturevalue(f"{lane}_broker").bootstrap
    settings = settings_for(bootstrap, topic_prefix, ("clicks",), topics={"partitions": 1})
    fetches, gate = 0, asyncio.Event()
    real_fetch = BatchFetcher.fetch

    async def held_up(self: BatchFetcher, partition: int, offset: int) -> Fetched:
        """The real fetch, small, and nothing after the first until the gate opens."""
        nonlocal fetches
        fetches += 1
        if fetches > 1:
            await gate.wait()
        return await real_fetch(self, partition, offset)

    async def write() -> int:
        async with running(settings) as worker:
            applied = worker.metrics.applied.labels("clicks")
            for n in range(3):  # batches of their own
                sent: list[Any] = [(b"u%d" % i, click(n * 100 + i, user=f"u{i}")) for i in range(100)]
                await produce(bootstrap, f"{topic_prefix}clicks", sent)
                await until(lambda n=n: applied._value.get() == 100 * (n + 1), 20, "all applied")
            return int(worker.metrics.outputs.labels("clicks", "recommendations")._value.get())

    async def read_back(rows: int) -> None:
        monkeypatch.setattr(BatchFetcher, "fetch", held_up)
        monkeypatch.setattr(batches, "FETCH_BYTES", 1)  # one batch a fetch
        worker = Worker(settings, SystemClock())
        await worker.start()
        try:
            await until(lambda: worker._lines[0].agent.recoveries.of(0).done, 20, "the first part is back")
            status, body = await get(worker.port.port, "/readyz")
            (found,) = json.loads(body)["recovering"]
            assert status == 503 and found["agent"] == "clicks" and found["partition"] == 0
            assert 0 < found["records"] < found["of"] <= rows
            _, page = await get(worker.port.port, "/metrics")
            left = found["of"] - found["records"]
            assert f'{PAGE}agent="clicks",partition="0"}} {float(left)}' in page
            gate.set()
            await until(lambda: worker.ready, 20, "ready")
            status, body = await get(worker.port.port, "/readyz")
            assert status == 200 and json.loads(body)["recovering"] == []
            _, page = await get(worker.port.port, "/metrics")
            assert f'{PAGE}agent="clicks",partition="0"}} 0.0' in page
            reader = worker._lines[0].reader
            await reader._handover.revoke({reader._tp(0)})
            _, page = await get(worker.port.port, "/metrics")
            assert PAGE not in page  # it went with the partition
        finally:
            await worker.stop()

    async def main() -> None:
        await read_back(await write())

    asyncio.run(main())
