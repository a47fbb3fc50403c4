"""The observation port of a running worker: what Prometheus and an orchestrator see."""

import asyncio
import re
import shutil
import subprocess

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bad_records import click
from running import produce, running, settings_for, until

LANES = [
    pytest.param("embedded", marks=pytest.mark.embedded),
    pytest.param("kafka", marks=pytest.mark.kafka),
]


async def get(port: int, path: str) -> tuple[int, str, str]:
    """Status, content type, body."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}") as reply,
    ):
        return reply.status, reply.headers["Content-Type"], await reply.text()


@pytest.mark.parametrize("lane", LANES)
def test_metrics_health_and_readiness(lane: str, request: pytest.FixtureRequest, topic_prefix: str) -> None:
    bootstrap = request.getfixturevalue(f"{lane}_broker").bootstrap
    settings = settings_for(bootstrap, topic_prefix, ("clicks",))

    async def main() -> None:
        async with running(settings) as worker:
            port = worker.port.port
            assert (await get(port, "/healthz"))[0] == 200
            status, kind, body = await get(port, "/readyz")
            assert status == 200 and kind.startswith("application/json") and '"clicks": true' in body
            sent = [(b"u%d" % (n % 9), click(n, user=f"u{n % 9}")) for n in range(500)]
            await produce(bootstrap, f"{topic_prefix}clicks", list(sent))
            applied = worker.metrics.applied.labels("clicks")
            await until(lambda: applied._value.get() == 500, 20, "all applied")
            reader = worker._lines[0].reader
            standing = lambda: [reader.standing(p) for p in range(4)]  # noqa: E731
            await until(
                lambda: all(one and one.lag_records == 0 for one in standing()), 20, "lag is measured"
            )
            status, kind, page = await get(port, "/metrics")
            assert status == 200 and kind == "text/plain; version=0.0.4; charset=utf-8"
            families = {family.name: family for family in text_string_to_metric_families(page)}
            assert all(family.documentation.endswith(".") for family in families.values())
            assert all(name.startswith("headrace_") for name in families)
            values = {
                (sample.name, *sorted(sample.labels.items())): sample.value
                for family in families.values()
                for sample in family.samples
            }
            agent = ("agent", "clicks")
            assert values["headrace_records_total", agent] == 500
            assert values["headrace_applied_total", agent] == 500
            assert values["headrace_users",] == 9
            assert values["headrace_partitions_owned", agent] == 4
            assert values["headrace_read_to_durable_seconds_count", agent] > 0
            ages = values["headrace_event_age_seconds_count", agent]
            assert ages > 0 and 0 < values["headrace_event_age_seconds_sum", agent] / ages < 20
            lags = {dict(key[1:])["partition"]: v for key, v in values.items() if "lag_records" in key[0]}
            assert lags and set(lags.values()) == {0.0}
            sizes = [v for key, v in values.items() if "_bucket" in key[0] and "read_to_durable" in key[0]]
            assert sizes
            bounds = [
                float(dict(key[1:])["le"])
                for key in values
                if key[0] == "headrace_read_to_durable_seconds_bucket"
            ]
            assert (min(bounds), sorted(bounds)[-2]) == (0.001, 120)  # of clicks and of recordings
            if shutil.which("promtool"):
                await asyncio.to_thread(_check_with_promtool, page)

            async with running(settings) as second:
                readers = [one._lines[0].reader for one in (worker, second)]
                await until(lambda: [len(one.owned) for one in readers] == [2, 2], 20, "they share")
                left = {str(p) for p in readers[1].owned}
                await asyncio.sleep(0.5)
                page = (await get(port, "/metrics"))[2]
                series = set(re.findall(r'consumer_lag_(?:records|seconds)\{.*partition="(\d)"', page))
                assert not series & left, page
            assert (await get(port, "/nothing"))[0] == 404

    asyncio.run(main())


def _check_with_promtool(page: str) -> None:
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=page, text=True, capture_output=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_is_here() -> None:
    """Makes it visible in the summary when the check of the page's format above did not run."""
