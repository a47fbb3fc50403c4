"""What the inference service reports, a device batch at a time."""

from streams.inference.answers import How
from streams.inference.device import BatchReport
from streams.observe.catalogue import Metrics


class InferenceMetrics:
    """The observer of `streams.inference`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def batch_done(self, batch: BatchReport) -> None:
        m, task = self._metrics, batch.task
        m.inference_units.labels(task).inc(batch.units)
        m.inference_batch.labels(task).observe(batch.units)
        m.inference_seconds.labels(task).observe(batch.forward_s)
        m.inference_queue.labels(task).observe(batch.queue_s)
        m.inference_useful.labels(task).inc(batch.total_length)
        m.inference_paid.labels(task).inc(batch.longest * batch.units)
        m.inference_compiles.labels(task).inc(batch.compiles)
        m.inference_drain.set(batch.drain_s)

    def failed(self, task: str, reason: str) -> None:
        self._metrics.inference_failures.labels(task, reason).inc()

    def repeated(self, task: str, how: How) -> None:
        self._metrics.inference_repeats.labels(task, how).inc()

    def late(self, task: str) -> None:
        self._metrics.inference_late.labels(task).inc()

    def uncaptured(self, task: str, shapes: int) -> None:
        self._metrics.inference_uncaptured.labels(task).set(shapes)

    def restarted(self, reason: str) -> None:
        self._metrics.inference_restarts.labels(reason).inc()
