"""What Faust tells of its streams, as metrics of the one catalogue. Stands in for Faust's own Monitor, which keeps
histories of milliseconds in memory that nobody reads.

Faust's consumer and producer do nothing here (`streams.transport` owns the clients, and reports by itself), so of a
sensor's events one has something to say: an agent takes what a poll brought from its channel.
"""

from typing import Any

import faust
from prometheus_client import Histogram

from streams.clock import Clock
from streams.observe.catalogue import Metrics


class Sensor(faust.Sensor):
    """One a worker. Streams of others are passed over."""

    def __init__(self, metrics: Metrics, clock: Clock, **options: Any) -> None:
        super().__init__(**options)
        self._metrics = metrics
        self._clock = clock
        self._agents: dict[str, Histogram] = {}  # by topic; bounded by the agents of this worker

    def follows(self, topic: str, agent: str) -> None:
        """Batches of that topic are taken by that agent."""
        self._agents[topic] = self._metrics.channel_seconds.labels(agent)

    def on_stream_event_in(self, tp: Any, offset: int, stream: Any, event: Any) -> None:
        """An agent takes an event."""
        poll = event.value
        if isinstance(poll, list) and poll[0].topic in self._agents:
            self._agents[poll[0].topic].observe(self._clock.monotonic_s() - poll[0].read_s)
