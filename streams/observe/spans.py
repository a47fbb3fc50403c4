"""Spans of records that are traced, by OpenTelemetry (extra `otel`), sent to a collector by OTLP over HTTP.

    process clicks (consumer: from read until durable, child of the record's own context)
      ├── list | fetch, infer ... (what was done)
      └── send recommendations (producer; its context travels in the output's headers)

A record is traced where its producer keeps the trace (flag `sampled`), or where it has no context and its offset is one
of the chosen share; of those that cause an output, at most so many a second. A click whose list a later one of the same
group makes has none. What is open at a time is bounded, and what is not sent in time is dropped by the SDK's queue.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from streams.clock import Clock
from streams.effects import Header
from streams.traces import CarriedOn, Traced, carried, sampled_trace
from streams.transport.batch import PartitionBatch, Record

OPEN_SPANS = 1_000  # records on their way
QUEUED_SPANS = 4_096  # to the collector; more are dropped
EXPORT_S = 2.0  # a collector that does not answer in time loses spans, not a worker its end
_MS, _S = 1_000_000, 1_000_000_000  # in ns

_context = TraceContextTextMapPropagator()
Place = tuple[str, int]  # topic, partition


def provider_for(endpoint: str, version: str, worker: str) -> TracerProvider:
    """Sends to a collector, from a thread of its own."""
    resource = Resource.create(
        {"service.name": "headrace", "service.version": version, "service.instance.id": worker}
    )
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=QUEUED_SPANS))
    return provider


class RecordSpans:
    """One record's spans."""

    def __init__(self, tracer: Tracer, process: Span, began_ns: int, now_ns: Callable[[], int]) -> None:
        self.process = process
        self._tracer = tracer
        self._within: Context = set_span_in_context(process)
        self._began_ns = began_ns
        self._now_ns = now_ns
        self._sending: list[Span] = []

    def step(self, name: str, seconds: float, **attributes: str | float) -> None:
        now_ns = self._now_ns()
        start_ns = max(self._began_ns, now_ns - int(seconds * _S))
        span = self._tracer.start_span(name, self._within, attributes=attributes, start_time=start_ns)
        span.end(now_ns)

    def sending(self, topic: str) -> list[Header]:
        attributes = {
            "messaging.system": "kafka",
            "messaging.operation.type": "send",
            "messaging.operation.name": "send",
            "messaging.destination.name": topic,
        }
        span = self._tracer.start_span(
            f"send {topic}", self._within, SpanKind.PRODUCER, attributes, start_time=self._now_ns()
        )
        self._sending.append(span)
        carrier: dict[str, str] = {}
        _context.inject(carrier, set_span_in_context(span))
        return [(name, value.encode()) for name, value in carrier.items()]

    def end(self, now_ns: int, problem: str | None = None) -> None:
        """All of them, once."""
        for span in (*self._sending, self.process):
            if problem is not None:
                span.set_status(Status(StatusCode.ERROR, problem))
            span.end(now_ns)


class Spans:
    """`streams.traces.Tracing` with spans. On the event loop; only the provider's sending is on a thread."""

    def __init__(self, provider: TracerProvider, clock: Clock, *, per_s: float, share: float = 0.0) -> None:
        """`per_s` records a second at most, `share` of those without a context of their own."""
        self._provider = provider
        self._tracer = provider.get_tracer("headrace")
        self._clock = clock
        self._start_ns = clock.wall_ms() * _MS - int(clock.monotonic_s() * _S)
        self._per_s = per_s
        self._left, self._left_at_s = per_s, clock.monotonic_s()
        self._every = round(1 / share) if share > 0 else 0
        self._read_s: dict[
            Place, list[tuple[int, float]]
        ] = {}  # of the group at hand: ends of batches, when read
        self._open: OrderedDict[tuple[Place, int], RecordSpans] = OrderedDict()

    # -- what agents and their line tell

    def deciding(self, batches: Sequence[PartitionBatch]) -> None:
        self._read_s = {}
        for batch in batches:
            place = batch.topic, batch.partition
            self._read_s.setdefault(place, []).append((batch.entry.next, batch.read_s))

    def begin(
        self, agent: str, topic: str, partition: int, record: Record, read_s: float | None = None
    ) -> Traced:
        if not self._wanted(record):
            return CarriedOn(record.headers)
        place, now_s, now_ns = (topic, partition), self._clock.monotonic_s(), self._now_ns()
        if read_s is None:
            read_s = next((at for end, at in self._read_s.get(place, ()) if record.offset < end), now_s)
        began_ns = now_ns - int(max(0.0, now_s - read_s) * _S)
        given = {name: value.decode("ascii", "replace") for name, value in carried(record.headers)}
        process = self._tracer.start_span(
            f"process {topic}",
            _context.extract(given) if given else Context(),
            SpanKind.CONSUMER,
            {
                "messaging.system": "kafka",
                "messaging.operation.type": "process",
                "messaging.operation.name": "process",
                "messaging.destination.name": topic,
                "messaging.destination.partition.id": str(partition),
                "messaging.kafka.offset": record.offset,
                "headrace.agent": agent,
            },
            start_time=began_ns,
        )
        spans = RecordSpans(self._tracer, process, began_ns, self._now_ns)
        self._remember((place, record.offset), spans)
        return spans

    def finished(self, batch: PartitionBatch) -> None:
        place = batch.topic, batch.partition
        done = [key for key in self._open if key[0] == place and key[1] < batch.entry.next]
        for key in done:
            self._open.pop(key).end(self._now_ns())

    async def stop(self) -> None:
        """End what is open, and send what is queued, within about twice `EXPORT_S`."""
        for spans in self._open.values():
            spans.end(self._now_ns(), "the worker stopped before it was durable")
        self._open.clear()
        await asyncio.to_thread(self._provider.shutdown)

    # -- which, and how many

    def _wanted(self, record: Record) -> bool:
        if carried(record.headers):
            wanted = sampled_trace(record.headers) is not None
        else:
            wanted = bool(self._every) and record.offset % self._every == 0
        return wanted and self._allowed()

    def _allowed(self) -> bool:
        """A bucket that fills by `per_s` a second, up to a second's worth."""
        now_s = self._clock.monotonic_s()
        self._left = min(max(1.0, self._per_s), self._left + (now_s - self._left_at_s) * self._per_s)
        self._left_at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def _remember(self, key: tuple[Place, int], spans: RecordSpans) -> None:
        before = self._open.pop(key, None)
        if before is not None:
            before.end(self._now_ns(), "not confirmed; read again")
        self._open[key] = spans
        if len(self._open) > OPEN_SPANS:
            self._open.popitem(last=False)[1].end(self._now_ns(), "too many records were on their way")

    def _now_ns(self) -> int:
        """The time of day by the steady clock: durations are right, whatever happens to the other."""
        return self._start_ns + int(self._clock.monotonic_s() * _S)
