"""The page's numbers: the registry of /metrics, read once a second, and what charts make of it over five minutes.

Nothing is measured here a second time: every figure is a sample of the registry or a difference of two.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from streams.observe.catalogue import Metrics

PERIOD_S = 1.0
KEPT_S = 300
WINDOW_S = 10  # percentiles, occupancy and padding are of the last so many seconds
BEHIND_S, LATE_S = 5.0, 60.0
PREFIX = "headrace_"
BUCKETS = f"{PREFIX}read_to_durable_seconds_bucket"

Labels = tuple[tuple[str, str], ...]
Chart = dict[str, float | None]


def shown_key(name: str, labels: Labels) -> str:
    """A sample's name as /metrics writes it: `headrace_applied_total{agent="clicks"}`."""
    inside = ",".join(f'{label}="{value}"' for label, value in labels)
    return f"{name}{{{inside}}}" if inside else name


@dataclass(frozen=True, slots=True)
class Read:
    """All samples of one moment."""

    at_s: float  # monotonic
    at_ms: int
    values: dict[str, dict[Labels, float]]  # name -> labels -> value

    def of(self, name: str, **labels: str) -> Iterator[float]:
        """All samples of a name that carry these labels."""
        wanted = set(labels.items())
        for has, value in self.values.get(PREFIX + name, {}).items():
            if wanted.issubset(has):
                yield value

    def total(self, name: str, **labels: str) -> float:
        """Their sum."""
        return sum(self.of(name, **labels))

    def most(self, name: str, **labels: str) -> float | None:
        """The largest of them; None where there is none."""
        return max(self.of(name, **labels), default=None)


@dataclass(slots=True)
class Numbers:
    """Samples of the last five minutes. `agents`: those of this worker."""

    metrics: Metrics
    agents: tuple[str, ...]
    charts: deque[tuple[int, Chart]] = field(default_factory=lambda: deque(maxlen=KEPT_S))
    _reads: deque[Read] = field(default_factory=lambda: deque(maxlen=WINDOW_S + 1))

    def take(self, at_s: float, at_ms: int) -> Chart:
        """Read the registry; what the charts get of this moment."""
        self._reads.append(Read(at_s, at_ms, _kept(self.metrics.samples())))
        chart = self._chart()
        self.charts.append((at_ms, chart))
        return chart

    @property
    def newest(self) -> Read:
        """The last reading. Raises IndexError before the first."""
        return self._reads[-1]

    def shown(self) -> dict[str, float]:
        """Every sample that the page may show as it stands, by its name on /metrics."""
        return {
            shown_key(name, labels): value
            for name, samples in self.newest.values.items()
            if not name.endswith(("_bucket", "_sum", "_count"))
            for labels, value in samples.items()
            if not any(label == "partition" for label, _ in labels)
        }

    def history(self) -> dict[str, list[float | None]]:
        """Series by name, oldest first, with the times in ms as `at`."""
        names = {name for _, chart in self.charts for name in chart}
        series = {name: [chart.get(name) for _, chart in self.charts] for name in sorted(names)}
        return {"at": [float(at) for at, _ in self.charts], **series}

    def _chart(self) -> Chart:
        now = self._reads[-1]
        last = self._reads[-2] if len(self._reads) > 1 else now
        first = self._reads[0]
        chart: Chart = {}
        for agent in self.agents:
            chart[f"rate.{agent}"] = _rate(last, now, "records_total", agent=agent)
            chart[f"lag.{agent}"] = now.total("consumer_lag_records", agent=agent)
            chart[f"lag_s.{agent}"] = now.most("consumer_lag_seconds", agent=agent)
            for share in (50, 99):
                chart[f"p{share}.{agent}"] = quantile(
                    first, now, "read_to_durable_seconds", share / 100, agent
                )
        chart["letters"] = _rate(last, now, "dead_letters_total")
        chart["lists"] = _rate(last, now, "recommendations_total")
        chart["labels"] = _rate(last, now, "labels_total")
        busy = _rate(first, now, "inference_seconds_sum")  # a batch is counted when it ends
        chart["busy"] = None if busy is None else min(1.0, busy)
        paid = now.total("inference_paid_cost_total") - first.total("inference_paid_cost_total")
        useful = now.total("inference_useful_cost_total") - first.total("inference_useful_cost_total")
        chart["padding"] = round(max(0.0, 1 - useful / paid), 4) if paid > 0 else None
        return chart

    def rates(self) -> dict[str, float | None]:
        """Records a second over the window that agents read, `>agent`, and published, `agent>topic`."""
        first, now = self._reads[0], self._reads[-1]
        read = {f">{agent}": _rate(first, now, "records_total", agent=agent) for agent in self.agents}
        return read | {
            f"{labels['agent']}>{labels['topic']}": _rate(first, now, "outputs_total", **labels)
            for has in now.values.get(f"{PREFIX}outputs_total", {})
            if (labels := dict(has))
        }

    def health(self) -> dict[str, dict[str, object]]:
        """Each agent: how far behind, how many partitions, and one word for it."""
        now = self._reads[-1]
        found: dict[str, dict[str, object]] = {}
        for agent in self.agents:
            owned = now.total("partitions_owned", agent=agent)
            opened = now.total("partitions_open", agent=agent)
            lag_s = now.most("consumer_lag_seconds", agent=agent) or 0.0
            word = "ok"
            if owned == 0:
                word = "idle"
            elif opened < owned:
                word = "recovering"
            elif lag_s >= LATE_S:
                word = "late"
            elif lag_s >= BEHIND_S:
                word = "behind"
            found[agent] = {
                "lag": now.total("consumer_lag_records", agent=agent),
                "lag_s": round(lag_s, 3),
                "owned": owned,
                "open": opened,
                "word": word,
                "letters": now.total("dead_letters_total", agent=agent),
            }
        return found


def _kept(samples: Iterable[tuple[str, Mapping[str, str], float]]) -> dict[str, dict[Labels, float]]:
    """All but the buckets that no chart reads."""
    found: dict[str, dict[Labels, float]] = {}
    for name, labels, value in samples:
        if not name.endswith("_bucket") or name == BUCKETS:
            found.setdefault(name, {})[tuple(sorted(labels.items()))] = value
    return found


def _rate(before: Read, now: Read, name: str, **labels: str) -> float | None:
    seconds = now.at_s - before.at_s
    if seconds <= 0:
        return None
    return round(max(0.0, now.total(name, **labels) - before.total(name, **labels)) / seconds, 4)


def quantile(before: Read, now: Read, name: str, share: float, agent: str) -> float | None:
    """The quantile of what a histogram took between two readings, in its unit, straight within a bucket as Prometheus
    has it; None when it took nothing. The last bucket's lower bound stands for what is beyond it."""
    bounds: list[tuple[float, float]] = []
    earlier = before.values.get(f"{PREFIX}{name}_bucket", {})
    for has, value in now.values.get(f"{PREFIX}{name}_bucket", {}).items():
        labels = dict(has)
        if labels["agent"] == agent:
            taken = value - earlier.get(has, 0.0)
            bounds.append((float(labels["le"].replace("+Inf", "inf")), taken))
    bounds.sort()
    if not bounds or bounds[-1][1] <= 0:
        return None
    wanted = share * bounds[-1][1]
    low, below = 0.0, 0.0
    for high, count in bounds:
        if count >= wanted:
            if high == float("inf"):
                return low
            return round(low + (high - low) * (wanted - below) / max(count - below, 1e-12), 6)
        low, below = high, count
    return low
