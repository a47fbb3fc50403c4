"""Alerts and the dashboard: judged by Prometheus' own tools, about metrics that exist, and each alert has its page."""

import importlib.util
import json
import re
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from prometheus_client import Counter, Histogram
from prometheus_client.metrics import MetricWrapperBase

from streams.observe.catalogue import Metrics

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
RULES = yaml.safe_load((PROMETHEUS / "rules.yaml").read_text(encoding="utf-8"))
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}


def render() -> ModuleType:
    spec = importlib.util.spec_from_file_location("render", ROOT / "deploy/render.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def series() -> dict[str, set[str]]:
    """Every series that the catalogue can show, and its labels."""
    found: dict[str, set[str]] = {}
    for one in vars(Metrics("any")).values():
        if not isinstance(one, MetricWrapperBase):
            continue
        name, labels = next(iter(one.describe())).name, set(one._labelnames)
        if isinstance(one, Histogram):
            found |= {f"{name}_bucket": labels | {"le"}, f"{name}_sum": labels, f"{name}_count": labels}
        else:
            found[f"{name}_total" if isinstance(one, Counter) else name] = labels
    return found


def problems(expression: str) -> list[str]:
    """What an expression names that no worker shows. `instance` and `job` are Prometheus' own."""
    known, wrong = series(), []
    for name, selector in re.findall(r"\b(headrace_\w+)(\{[^}]*\})?", expression):
        if name not in known:
            wrong.append(f"no metric {name}")
            continue
        used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
        wrong += [f"{name} has no label {label}" for label in used - known[name] - {"instance", "job"}]
    labels = {label for name in re.findall(r"headrace_\w+", expression) for label in known.get(name, ())}
    for grouped in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression):
        given = {label.strip() for label in grouped.split(",") if label.strip()}
        wrong += [f"no label {label} to group by" for label in given - labels - {"instance", "job"}]
    return wrong


def promtool(*arguments: str, folder: Path = PROMETHEUS) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["promtool", *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.tool("promtool")
def test_promtool_finds_no_fault_with_rules_and_settings() -> None:
    for arguments in (["check", "rules", "--lint=all", "rules.yaml"], ["check", "config", "prometheus.yaml"]):
        done = promtool(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.tool("promtool")
def test_every_alert_fires_when_it_should_and_keeps_quiet_when_not() -> None:
    done = promtool("test", "rules", "rules_test.yaml")

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.tool("promtool")
@pytest.mark.parametrize("alert", ALERTS)
def test_the_tests_of_the_alerts_see_a_broken_threshold(alert: str, tmp_path: Path) -> None:
    """Each rule in turn is made one that is never true: its unit test must fail."""
    broken = json.loads(json.dumps(RULES))
    rule = next(one for group in broken["groups"] for one in group["rules"] if one["alert"] == alert)
    rule["expr"] = f"({rule['expr']}) and on () vector(1) > 2"
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(broken))
    (tmp_path / "rules_test.yaml").write_bytes((PROMETHEUS / "rules_test.yaml").read_bytes())

    done = promtool("test", "rules", "rules_test.yaml", folder=tmp_path)

    assert done.returncode != 0 and f"alertname: {alert}," in done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_names_its_page_its_weight_and_metrics_that_exist(alert: str) -> None:
    rule = ALERTS[alert]
    page = ROOT / rule["annotations"]["runbook_url"]

    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert page.name == f"{alert}.md" and page.is_file()
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {alert}\n") and "\n## Look\n" in text and "\n## Do\n" in text
    assert problems(rule["expr"]) == []


def test_no_page_is_left_over_and_pages_name_what_exists() -> None:
    pages = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "docs/runbook").glob("*.md")}

    assert set(pages) == set(ALERTS)
    for text in pages.values():
        for code in re.findall(r"`([^`]*headrace_[^`]*)`", text):
            whole = {name.removesuffix("_bucket") for name in series()}  # a page may name a histogram
            assert problems(code) == [] or code in whole
        assert set(re.findall(r"\bHeadrace[A-Z]\w+", text)) <= set(ALERTS)


@pytest.mark.parametrize(
    ("expression", "seen"),
    [
        ("headrace_recrods_total", "no metric"),
        ("headrace_records", "no metric"),  # a counter's series ends in _total
        ('headrace_users{agent="clicks"}', "no label"),
        ("sum by (topic) (headrace_users)", "no label"),
    ],
)
def test_a_metric_or_label_that_is_not_there_is_seen(expression: str, seen: str) -> None:
    assert any(seen in one for one in problems(expression))


def test_what_is_made_has_not_drifted() -> None:
    """After a meant change: `python deploy/render.py`."""
    for path, text in render().files().items():
        assert path.read_text(encoding="utf-8") == text, path


def test_the_dashboard_shows_every_metric_of_the_catalogue_and_no_other() -> None:
    expressions = [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]
    assert [one for expression in expressions for one in problems(expression)] == []
    drawn = {name for expression in expressions for name in re.findall(r"headrace_\w+", expression)}
    wanted = {name for name in series() if not name.endswith(("_sum", "_count"))}
    assert drawn == wanted


def test_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    panels = dashboard()["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)


def dashboard() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((ROOT / "deploy/grafana/dashboards/headrace.json").read_text())
    return read
