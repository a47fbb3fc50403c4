"""A trace goes from the input to the list, the label and the dead letter; lag and doctor see the same cluster."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from aiokafka import AIOKafkaProducer
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from bad_records import click
from running import read_all, running, settings_for, until
from streams.cli.run import run
from streams.settings import Settings
from streams.transport.client import close

PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE = [("traceparent", PARENT), ("tracestate", b"site=1")]


def traced(record: Any) -> list[tuple[str, bytes]]:
    return [(name, value) for name, value in record.headers if name.startswith("trace")]


async def send(bootstrap: str, topic: str, key: bytes, *values: bytes, headers: Any = TRACE) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(topic, value, key, headers=headers)
    finally:
        await close(producer)


def command(settings: Settings, *arguments: str) -> int:
    kafka = settings.kafka
    named = {"bootstrap": kafka.bootstrap, "topic_prefix": kafka.topic_prefix, "group": kafka.group}
    sets = [f"--set=kafka.{name}={value}" for name, value in named.items()]
    return run([*sets, "--set=topics.partitions=1", "--set=observe.port=0", *arguments])


async def check_exemplars(port: int) -> None:
    """Who asks for OpenMetrics sees which trace a latency was of; the classic page has none."""
    url = f"http://127.0.0.1:{port}/metrics"
    async with aiohttp.ClientSession() as session:
        async with session.get(url) as reply:
            assert reply.content_type == "text/plain" and "trace_id" not in await reply.text()
        asked = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}
        async with session.get(url, headers=asked) as reply:
            assert reply.content_type == "application/openmetrics-text"
            families = {f.name: f for f in text_string_to_metric_families(await reply.text())}
    samples = families["headrace_read_to_durable_seconds"].samples
    exemplars = [sample.exemplar for sample in samples if sample.exemplar is not None]
    assert {one.labels["trace_id"] for one in exemplars} == {PARENT[3:35].decode()}
    assert all(0 < one.value < 20 for one in exemplars)


@pytest.mark.kafka
def test_from_click_to_list_and_dead_letter_and_what_lag_and_doctor_say(
    kafka_broker: Any, topic_prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bootstrap = kafka_broker.bootstrap
    settings = settings_for(bootstrap, topic_prefix, ("clicks",), topics={"partitions": 1})
    clicks = f"{topic_prefix}clicks"

    async def worked() -> None:
        async with running(settings) as worker:
            applied = worker.metrics.applied.labels("clicks")
            await send(bootstrap, clicks, b"ada", click(1, user="ada"), b"{bad")
            await send(bootstrap, clicks, b"ben", click(2, user="ben"), headers=[])
            await until(lambda: applied._value.get() == 3, 20, "all applied")
            await check_exemplars(worker.port.port)
        lists = {
            r.key: r for r in await read_all(bootstrap, f"{topic_prefix}recommendations", 2, partitions=1)
        }
        assert traced(lists[b"ada"]) == TRACE and traced(lists[b"ben"]) == []
        (letter,) = await read_all(bootstrap, f"{clicks}.dlt", 1, partitions=1)
        assert traced(letter) == TRACE
        await send(bootstrap, clicks, b"ada", click(3, user="ada"), click(4, user="ada"))

    asyncio.run(worked())
    capsys.readouterr()
    assert command(settings, "--set=worker.agents=clicks", "lag", "--json") == 0
    (one,) = json.loads(capsys.readouterr().out)["partitions"]
    assert (one["committed"], one["end"], one["records"]) == (3, 5, 2)
    assert one["group"] == f"{settings.kafka.group}.clicks" and 0 < one["seconds"] < 120
    assert command(settings, "--set=worker.agents=clicks,privacy", "lag") == 0
    said = capsys.readouterr().out
    assert "clicks: 2 records" in said and "privacy: 0 records, 0.0 s behind" in said
    assert command(settings, "doctor", "--json") == 0
    found = {one["check"]: one["state"] for one in json.loads(capsys.readouterr().out)["findings"]}
    assert found["broker"] == found["topics"] == "ok"


@pytest.mark.embedded
@pytest.mark.models
def test_from_upload_to_label(embedded_broker: Any, topic_prefix: str) -> None:
    bootstrap = embedded_broker.bootstrap
    tasks = {"uploads": ["sentiment"]}
    settings = settings_for(bootstrap, topic_prefix, ("uploads",), topics={"partitions": 1}, media=tasks)
    upload = {
        "id": "1",
        "asset": "a",
        "at": 1_767_225_600_000,
        "media_type": "text/plain",
        "text": "A fine day.",
    }

    async def main() -> None:
        async with running(settings, ready_within_s=60):
            await send(bootstrap, f"{topic_prefix}uploads", b"a", json.dumps(upload).encode())
            (label,) = await read_all(bootstrap, f"{topic_prefix}labels", 1, 40, partitions=1)
        assert traced(label) == TRACE

    asyncio.run(main())
