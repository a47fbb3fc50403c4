"""Which tracing the settings ask for."""

from streams.clock import Clock
from streams.errors import EnvironmentProblem
from streams.sections.worker import Observe
from streams.traces import NO_SPANS, Tracing


def tracing_for(observe: Observe, clock: Clock, version: str, worker: str) -> Tracing:
    """Spans where there is somewhere to send them. Raises EnvironmentProblem without the extra `otel`."""
    if observe.otlp_endpoint is None:
        return NO_SPANS
    try:
        from streams.observe.spans import Spans, provider_for
    except ImportError as error:
        raise EnvironmentProblem(
            "observe.otlp_endpoint needs OpenTelemetry, which is not installed: pip install 'headrace[otel]'"
        ) from error
    provider = provider_for(observe.otlp_endpoint, version, worker)
    return Spans(provider, clock, per_s=observe.traces_per_s, share=observe.traces_share)
