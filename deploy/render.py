"""Writes what follows from something else: the dashboard from the catalogue of metrics, the PrometheusRule from
rules.yaml, the figures of docs/scale.md from `headrace plan`. Run it after a change of one of these:
`python deploy/render.py`; a test compares.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from streams.bench.scale import LARGE_CLICKS_PER_S, LARGE_USERS
from streams.observe.catalogue import Metrics
from streams.plan import Asked, plan
from streams.settings import load

DEPLOY = Path(__file__).parent
SCALE = DEPLOY.parent / "docs/scale.md"
SELECTED = '{instance=~"$instance"}'
PANEL_WIDTH, PANEL_HEIGHT, ROW_WIDTH = 8, 7, 24

SECTIONS: dict[str, tuple[str, ...]] = {
    "Flow": ("records", "applied", "outputs", "lists", "labels", "read_bytes"),
    "Lag": (
        *("lag_seconds", "lag_records", "event_age", "read_to_durable"),
        *("heartbeat_timestamp", "heartbeat_seconds", "heartbeat_failures", "channel_seconds"),
    ),
    "What went wrong": (
        "dead_letters",
        "left_out",
        "retries",
        "inference_failures",
        "group_failures",
        "commit_failures",
        "rewinds",
        "foreign",
    ),
    "Partitions and recovery": (
        "owned",
        "open",
        "paused",
        "rebalances",
        "recovery_seconds",
        "recovery_remaining",
    ),
    "Quality of lists": ("recall", "ndcg", "mrr", "quality_scored", "quality_left_out", "quality_seconds"),
    "Experiments": (
        "arm_clicks",
        "arm_lists",
        "arm_uncredited",
        "arm_recall",
        "arm_ndcg",
        "arm_mrr",
        "arm_scored",
    ),
    "State": ("users", "user_bytes", "items"),
    "Inference": ("inference_seconds", "inference_queue", "inference_batch", "inference_units"),
}
"""Row -> names in the catalogue. What is in none of them has a panel in the last row, so nothing is forgotten."""

HEADLINES = (
    ("Workers that answer", 'sum(up{job="headrace"})', "short"),
    ("Oldest click at work", 'max(headrace_consumer_lag_seconds{agent=~"clicks|items"})', "s"),
    ("Lists a second", "sum(rate(headrace_recommendations_total[$__rate_interval]))", "short"),
    ("Dead letters in an hour", "sum(increase(headrace_dead_letters_total[1h]))", "short"),
)


def dashboard() -> dict[str, Any]:
    """Grafana's JSON."""
    panels: list[dict[str, Any]] = []
    y = _headlines(panels)
    catalogue = {
        name: one for name, one in vars(Metrics("any")).items() if isinstance(one, MetricWrapperBase)
    }
    sorted_in = {name for names in SECTIONS.values() for name in names}
    rest = tuple(name for name in catalogue if name not in sorted_in)
    for title, names in {**SECTIONS, "More": rest}.items():
        panels.append({"type": "row", "title": title, "id": len(panels) + 1, "gridPos": _place(0, y, 24, 1)})
        y += 1
        for at, name in enumerate(names):
            x = at * PANEL_WIDTH % ROW_WIDTH
            where = _place(x, y + at * PANEL_WIDTH // ROW_WIDTH * PANEL_HEIGHT, PANEL_WIDTH, PANEL_HEIGHT)
            panels.append({"id": len(panels) + 1, "gridPos": where, **_panel(catalogue[name])})
        y += -(-len(names) * PANEL_WIDTH // ROW_WIDTH) * PANEL_HEIGHT
    return {
        "uid": "headrace",
        "title": "Headrace",
        "tags": ["headrace"],
        "schemaVersion": 41,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_instances()]},
        "panels": panels,
    }


def prometheus_rule() -> str:
    """rules.yaml as the Prometheus operator takes it."""
    groups = yaml.safe_load((DEPLOY / "prometheus/rules.yaml").read_text(encoding="utf-8"))
    manifest = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "headrace", "labels": {"app.kubernetes.io/part-of": "headrace"}},
        "spec": groups,
    }
    head = "# Made from deploy/prometheus/rules.yaml by deploy/render.py.\n"
    return head + yaml.safe_dump(manifest, sort_keys=False, width=1000)


def scale() -> str:
    """docs/scale.md with the plan's figures of now; the words around them are kept."""
    figures = plan(Asked(LARGE_USERS, LARGE_CLICKS_PER_S), load())

    def row(found: "re.Match[str]") -> str:
        return f"| `{found[1]}` | {figures[found[1]]:,} |"

    return re.sub(r"^\| `(\w+)` \| [\d,.]+ \|", row, SCALE.read_text(encoding="utf-8"), flags=re.MULTILINE)


def files() -> dict[Path, str]:
    """Every file that is made here, with its text."""
    return {
        SCALE: scale(),
        DEPLOY / "grafana/dashboards/headrace.json": json.dumps(dashboard(), indent=1) + "\n",
        DEPLOY / "kustomize/components/monitoring/prometheus-rule.yaml": prometheus_rule(),
    }


def _headlines(panels: list[dict[str, Any]]) -> int:
    width = ROW_WIDTH // len(HEADLINES)
    for at, (title, expression, unit) in enumerate(HEADLINES):
        panels.append(
            {
                "id": at + 1,
                "gridPos": _place(at * width, 0, width, 4),
                "type": "stat",
                "title": title,
                "datasource": {"type": "prometheus", "uid": "prometheus"},
                "fieldConfig": {"defaults": {"unit": unit, "noValue": "none"}, "overrides": []},
                "targets": [{"refId": "A", "expr": expression}],
            }
        )
    return 4


def _panel(metric: MetricWrapperBase) -> dict[str, Any]:
    family = _family(metric)
    return {
        "type": "timeseries",
        "title": family.documentation.rstrip("."),
        "description": family.name,
        "datasource": {"type": "prometheus", "uid": "prometheus"},
        "fieldConfig": {"defaults": {"unit": _unit(metric), "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + at), "expr": expression, "legendFormat": legend}
            for at, (expression, legend) in enumerate(_expressions(metric))
        ],
    }


def _expressions(metric: MetricWrapperBase) -> Iterator[tuple[str, str]]:
    """What to draw of a metric, each with its legend. A partition is summed over: there may be hundreds."""
    name = _family(metric).name
    labels = [label for label in metric._labelnames if label != "partition"]
    by, legend = ", ".join(labels), " ".join(f"{{{{{label}}}}}" for label in labels)
    if isinstance(metric, Histogram):
        for quantile in (0.5, 0.99):
            inner = f"sum by ({', '.join(['le', *labels])}) (rate({name}_bucket{SELECTED}[$__rate_interval]))"
            yield f"histogram_quantile({quantile}, {inner})", f"p{quantile * 100:g} {legend}".strip()
    elif isinstance(metric, Counter):
        yield f"sum by ({by}) (rate({name}_total{SELECTED}[$__rate_interval]))", legend
    else:
        assert isinstance(metric, Gauge), name
        if name.endswith("_timestamp_seconds"):
            yield f"max by ({by}) (time() - {name}{SELECTED})", legend  # its age
        else:
            how = "max" if name.endswith("_seconds") else "sum"
            yield f"{how} by ({by}) ({name}{SELECTED})", legend


def _family(metric: MetricWrapperBase) -> Metric:
    return next(iter(metric.describe()))


def _unit(metric: MetricWrapperBase) -> str:
    name = _family(metric).name
    if name.endswith("_bytes"):
        return "Bps" if isinstance(metric, Counter) else "bytes"
    return "s" if name.endswith("_seconds") else "short"


def _instances() -> dict[str, Any]:
    return {
        "name": "instance",
        "label": "Worker",
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "prometheus"},
        "query": "label_values(headrace_build_info, instance)",
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "current": {"text": "All", "value": "$__all"},
    }


def _place(x: int, y: int, w: int, h: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": w, "h": h}


if __name__ == "__main__":
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{path.relative_to(DEPLOY.parent)}\n")
