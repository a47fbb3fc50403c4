"""Spans of what a worker does, as a collector gets them: a loopback receiver of OTLP over HTTP, and the SDK's own
exporter in memory for what is bounded."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bad_records import click
from running import read_all, running, settings_for, until
from sending import Sent, send
from streams.clock import Clock, SystemClock
from streams.observe.spans import EXPORT_S, Spans, provider_for
from streams.traces import CarriedOn
from streams.transport.batch import PartitionBatch
from streams.transport.ledger import Ledger

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
KEPT = [("traceparent", f"00-{TRACE}-{SPAN}-01".encode()), ("tracestate", b"site=1")]
NOT_KEPT = [("traceparent", f"00-{'1' * 32}-{SPAN}-00".encode())]


@contextlib.asynccontextmanager
async def collector() -> AsyncIterator[tuple[str, list[Any]]]:
    """Its address, and all spans that came."""
    spans: list[Any] = []

    async def take(request: web.Request) -> web.Response:
        assert request.content_type == "application/x-protobuf"
        told = ExportTraceServiceRequest.FromString(await request.read())
        spans.extend(span for one in told.resource_spans for scope in one.scope_spans for span in scope.spans)
        return web.Response()

    app = web.Application()
    app.router.add_post("/v1/traces", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces", spans
    finally:
        await runner.cleanup()


def told(spans: Sequence[Any], trace: str) -> dict[str, Any]:
    """Name -> span of a trace."""
    return {span.name: span for span in spans if span.trace_id.hex() == trace}


def check_tree(spans: dict[str, Any], source: str, done: str, output: str) -> None:
    """Process, a child of the producer's; what was done and the sending are children of that, and within its time."""
    process = spans[f"process {source}"]
    assert process.parent_span_id.hex() == SPAN and process.kind == process.SPAN_KIND_CONSUMER
    sending = spans[f"send {output}"]
    assert sending.kind == sending.SPAN_KIND_PRODUCER
    for child in (spans[done], sending):
        assert child.parent_span_id == process.span_id
        assert process.start_time_unix_nano <= child.start_time_unix_nano <= child.end_time_unix_nano
        assert child.end_time_unix_nano <= process.end_time_unix_nano
    assert 0 < process.end_time_unix_nano - process.start_time_unix_nano < 20e9
    assert all(span.status.code == 0 for span in spans.values())


def context_of(record: Any) -> list[tuple[str, bytes]]:
    return [(name, value) for name, value in record.headers if name.startswith("trace")]


@pytest.mark.embedded
def test_from_a_click_to_its_list(embedded_broker: Any, topic_prefix: str) -> None:
    bootstrap = embedded_broker.bootstrap
    sent: list[Sent] = [
        (b"ada", click(1, user="ada"), list(KEPT)),
        (b"ben", click(2, user="ben"), list(NOT_KEPT)),
        (b"eve", click(3, user="eve"), []),
    ]

    async def main() -> None:
        async with collector() as (address, spans):
            settings = settings_for(
                bootstrap, topic_prefix, ("clicks",), observe={"port": 0, "otlp_endpoint": address}
            )
            async with running(settings) as worker:
                await send(bootstrap, f"{topic_prefix}clicks", sent)
                applied = worker.metrics.applied.labels("clicks")
                await until(lambda: applied._value.get() == 3, 20, "all applied")
            lists = {
                r.key: context_of(r) for r in await read_all(bootstrap, f"{topic_prefix}recommendations", 3)
            }
        found = told(spans, TRACE)
        assert len(found) == len(spans) == 3  # the others' traces are not kept: carried on, no spans
        check_tree(found, "clicks", "list", "recommendations")
        sender = found["send recommendations"].span_id.hex()
        assert lists[b"ada"] == [
            ("traceparent", f"00-{TRACE}-{sender}-01".encode()),
            ("tracestate", b"site=1"),
        ]
        assert lists[b"ben"] == NOT_KEPT and lists[b"eve"] == []

    asyncio.run(main())


@pytest.mark.embedded
@pytest.mark.models
def test_from_an_upload_to_its_label(embedded_broker: Any, topic_prefix: str) -> None:
    bootstrap = embedded_broker.bootstrap
    upload = {
        "id": "1",
        "asset": "a",
        "at": 1_767_225_600_000,
        "media_type": "text/plain",
        "text": "A fine day.",
    }

    async def main() -> None:
        async with collector() as (address, spans):
            settings = settings_for(
                bootstrap,
                topic_prefix,
                ("uploads",),
                observe={"port": 0, "otlp_endpoint": address},
                media={"uploads": ["sentiment"]},
            )
            async with running(settings, ready_within_s=60):
                await send(
                    bootstrap, f"{topic_prefix}uploads", [(b"a", json.dumps(upload).encode(), list(KEPT))]
                )
                (label,) = await read_all(bootstrap, f"{topic_prefix}labels", 1, 40)
        found = told(spans, TRACE)
        assert found.keys() == {"process uploads", "fetch", "infer sentiment", "send labels"}
        check_tree(found, "uploads", "infer sentiment", "labels")
        stages = {one.key: one.value.double_value for one in found["infer sentiment"].attributes}
        assert stages["device_s"] > 0
        assert context_of(label)[0][1].decode().split("-")[2] == found["send labels"].span_id.hex()

    asyncio.run(main())


class Row:
    """A record that the spans look at."""

    key = value = None
    timestamp = 0

    def __init__(self, offset: int, headers: Sequence[tuple[str, bytes]] = ()) -> None:
        self.offset = offset
        self.headers = headers


class StillClock(SystemClock):
    """However long a busy machine takes, no time passes."""

    def monotonic_s(self) -> float:
        return 1_000.0


def in_memory(clock: Clock | None = None, **options: Any) -> tuple[Spans, InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Spans(provider, clock or SystemClock(), **options), exporter


def test_no_more_than_so_many_a_second_and_what_is_left_out_is_carried_on() -> None:
    spans, _ = in_memory(clock=StillClock(), per_s=5)
    begun = [spans.begin("clicks", "clicks", 0, Row(n, KEPT)) for n in range(50)]
    left_out = [one for one in begun if isinstance(one, CarriedOn)]
    assert len(left_out) == 45
    assert all(one.sending("recommendations") == KEPT for one in left_out)


def test_a_share_of_records_without_a_trace_begin_one() -> None:
    spans, exporter = in_memory(per_s=1_000, share=0.1)
    begun = [spans.begin("clicks", "clicks", 0, Row(n)) for n in range(100)]
    assert sum(not isinstance(one, CarriedOn) for one in begun) == 10
    ledger = Ledger()
    spans.finished(PartitionBatch("clicks", 0, [], ledger.append(0, 100, 1), 0.0))
    assert {span.name for span in exporter.get_finished_spans()} == {"process clicks"}
    assert len({span.context.trace_id for span in exporter.get_finished_spans()}) == 10


def test_what_is_read_again_or_left_behind_ends_with_a_word() -> None:
    spans, exporter = in_memory(per_s=5_000)
    for n in (*range(1_003), 1_002):
        spans.begin("clicks", "clicks", 0, Row(n, KEPT)).sending("recommendations")
    asyncio.run(spans.stop())
    words = [
        span.status.description for span in exporter.get_finished_spans() if span.name == "process clicks"
    ]
    assert len(words) == 1_004 and words.count("not confirmed; read again") == 1
    assert words.count("too many records were on their way") == 3
    assert words.count("the worker stopped before it was durable") == 1_000


def test_a_collector_that_is_not_there_holds_nothing_up() -> None:
    spans = Spans(provider_for("http://127.0.0.1:9/v1/traces", "0", "w"), SystemClock(), per_s=10)
    spans.begin("clicks", "clicks", 0, Row(0, KEPT))
    began_s = time.monotonic()
    asyncio.run(spans.stop())
    assert time.monotonic() - began_s < 2 * EXPORT_S + 1
