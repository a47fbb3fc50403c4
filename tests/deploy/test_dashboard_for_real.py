"""Every expression of the dashboard and the alerts, asked of a real Prometheus that scraped a real worker."""

import asyncio
import contextlib
import json
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bad_records import click
from running import produce, running, settings_for, until
from sending import send
from streams.demo.server import free_ports

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/headrace.json").read_text(encoding="utf-8"))
RULES = yaml.safe_load((DEPLOY / "prometheus/rules.yaml").read_text(encoding="utf-8"))
PANELS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
ALERTS = [rule["expr"] for group in RULES["groups"] for rule in group["rules"]]
RANGE = "8s"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACED = f"00-{TRACE}-00f067aa0ba902b7-01".encode()


def asked(port: int, expression: str) -> list[Any]:
    """The result of an instant query. Raises HTTPError with 400 on a fault in the expression."""
    query = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?{query}", timeout=10) as answer:
        result: list[Any] = json.load(answer)["data"]["result"]
        return result


def exemplars(port: int) -> set[str]:
    """Traces that Prometheus keeps beside the buckets of how long clicks take."""
    now_s = time.time()
    about = {"query": "headrace_read_to_durable_seconds_bucket", "start": now_s - 300, "end": now_s + 60}
    url = f"http://127.0.0.1:{port}/api/v1/query_exemplars?{urllib.parse.urlencode(about)}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        found = json.load(answer)["data"]
    return {one["labels"]["trace_id"] for series in found for one in series["exemplars"]}


@contextlib.contextmanager
def prometheus(folder: Path, worker: int) -> Iterator[int]:
    """Scrapes the worker twice a second; its port."""
    config = {
        "global": {"scrape_interval": "500ms"},
        "scrape_configs": [
            {"job_name": "headrace", "static_configs": [{"targets": [f"127.0.0.1:{worker}"]}]}
        ],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (port,) = free_ports(1)
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--enable-feature=exemplar-storage",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        yield port
    finally:
        process.terminate()
        process.wait(timeout=20)


def scrapes(port: int) -> int:
    """How often the worker was scraped so far."""
    try:
        (found,) = asked(port, "count_over_time(up{job='headrace'}[10m])") or [{"value": [0, "0"]}]
    except (urllib.error.URLError, ConnectionError):
        return 0
    return int(found["value"][1])


@pytest.mark.tool("prometheus")
@pytest.mark.embedded
def test_every_expression_has_an_answer(embedded_broker: Any, topic_prefix: str, tmp_path: Path) -> None:
    bootstrap = embedded_broker.bootstrap
    settings = settings_for(
        bootstrap,
        topic_prefix,
        ("clicks", "items"),
        topics={"partitions": 2},
        observe={"port": 0, "heartbeat_s": 0.5},
    )

    def expressions(port: int, page: str) -> None:
        shown = set(re.findall(r"^(headrace_\w+)(?:\{| )", page, re.MULTILINE))
        answered = 0
        for expression in (*PANELS, *ALERTS):
            filled = expression.replace("$__rate_interval", RANGE).replace("$instance", ".*")
            result = asked(port, filled)  # a fault is a 400, and an error here
            names = set(re.findall(r"headrace_\w+", expression))
            if expression in PANELS and names <= shown:
                assert result, f"no answer to {filled}"
                answered += 1
        assert answered >= 40, answered
        with pytest.raises(urllib.error.HTTPError):
            asked(port, "sum by (")

    async def main() -> None:
        async with running(settings) as worker:
            with prometheus(tmp_path, worker.port.port) as port:
                for n in range(12):
                    records = [
                        (b"u%d" % (n % 5), click(20 * n + i, user=f"u{n % 5}", item=f"i{i}"))
                        for i in range(20)
                    ]
                    await produce(bootstrap, f"{topic_prefix}clicks", [*records, (b"u1", b"{bad")])
                    await asyncio.sleep(0.2)
                await send(
                    bootstrap,
                    f"{topic_prefix}clicks",
                    [(b"u1", click(999, user="u1"), [("traceparent", TRACED)])],
                )
                await until(lambda: worker.metrics.applied.labels("items")._value.get() > 0, 20, "items too")
                page, before = worker.metrics.text().decode(), await asyncio.to_thread(scrapes, port)
                deadline = asyncio.get_running_loop().time() + 60
                while await asyncio.to_thread(scrapes, port) < before + 4:  # of what the page has by now
                    assert asyncio.get_running_loop().time() < deadline
                    await asyncio.sleep(0.3)
                await asyncio.to_thread(expressions, port, page)
                assert await asyncio.to_thread(exemplars, port) == {TRACE}

    asyncio.run(main())
