"""What the meters of live quality report."""

from collections.abc import Mapping, Sequence

from prometheus_client import Counter, Gauge

from streams.observe.catalogue import Metrics


class QualityMetrics:
    """The observer of `streams.taste.quality`. Children come with their first figure: a mean of nothing is no 0."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._layers: dict[str, tuple[tuple[Gauge, ...], Counter]] = {}
        self._arms: dict[tuple[str, str], tuple[tuple[Gauge, ...], Counter, tuple[Counter, ...]]] = {}

    def top(self, k: int) -> None:
        self._metrics.quality_top.set(k)

    def layer(self, layer: str, means: Sequence[float], scored: int) -> None:
        """Decayed recall, MRR and NDCG, and how many clicks were scored since the last call."""
        m = self._metrics
        if layer not in self._layers:
            self._layers[layer] = (
                (m.recall.labels(layer), m.mrr.labels(layer), m.ndcg.labels(layer)),
                m.quality_scored.labels(layer),
            )
        gauges, counter = self._layers[layer]
        for gauge, mean in zip(gauges, means, strict=True):
            gauge.set(mean)
        counter.inc(scored)

    def arm(self, arm: tuple[str, str], means: Sequence[float], sums: Sequence[float], scored: int) -> None:
        """The same of an arm (experiment, arm), and the sums over these clicks."""
        m = self._metrics
        if arm not in self._arms:
            self._arms[arm] = (
                (m.arm_recall.labels(*arm), m.arm_mrr.labels(*arm), m.arm_ndcg.labels(*arm)),
                m.arm_scored.labels(*arm),
                (m.arm_hits.labels(*arm), m.arm_reciprocal_ranks.labels(*arm), m.arm_gains.labels(*arm)),
            )
        gauges, counter, totals = self._arms[arm]
        for gauge, mean in zip(gauges, means, strict=True):
            gauge.set(mean)
        for total, more in zip(totals, sums, strict=True):
            total.inc(more)
        counter.inc(scored)

    def left_out(self, by_reason: Mapping[str, int]) -> None:
        for reason, count in by_reason.items():
            self._metrics.quality_left_out.labels(reason).inc(count)

    def spent(self, seconds: float) -> None:
        self._metrics.quality_seconds.inc(max(0.0, seconds))


class BlendMetrics:
    """The observer of `streams.taste.learning`."""

    def __init__(self, metrics: Metrics) -> None:
        self._choices = metrics.blend_choices
        self._gauge = metrics.blend_weight
        self._weights: dict[tuple[str, str], Gauge] = {}

    def weight(self, part: str, form: str, weight: float) -> None:
        if (part, form) not in self._weights:
            self._weights[part, form] = self._gauge.labels(part, form)
        self._weights[part, form].set(weight)

    def chosen(self, learnt: int, beyond: int) -> None:
        for outcome, count in (("learnt", learnt), ("beyond", beyond)):
            if count:
                self._choices.labels(outcome).inc(count)

    def left_out(self, count: int) -> None:
        if count:
            self._choices.labels("left_out").inc(count)
