"""What compose and Kubernetes start is started here, with its own command, environment and probes, on a real broker."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from processes import ROOT, run_command
from streams.demo.server import free_ports
from streams.settings import load

DEPLOY = ROOT / "deploy"
PORT = 8780
Started = tuple[list[str], dict[str, str], list[str], float]  # command, environment, health check, grace in s


def of_compose(service: str) -> Started:
    """As Docker starts it: the image's environment, then the service's."""
    image = dict(re.findall(r"(HEADRACE_OBSERVE__\w+)=(\S+)", (DEPLOY / "Dockerfile").read_text()))
    found = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"][service]
    kind, program, *rest = found["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "python")
    return found["command"], image | found["environment"], rest, float(found["stop_grace_period"].rstrip("s"))


def of_kubernetes() -> Started:
    image = dict(re.findall(r"(HEADRACE_OBSERVE__\w+)=(\S+)", (DEPLOY / "Dockerfile").read_text()))
    (workers,) = [part for part in yaml_of("base/clicks.yaml") if part["kind"] == "StatefulSet"]
    pod = workers["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (shared,) = [
        generated["literals"] for generated in yaml_of("base/kustomization.yaml")[0]["configMapGenerator"]
    ]
    given: dict[str, str] = {}
    for one in container[
        "env"
    ]:  # as a kubelet: what is optional and not there is left out, $(NAME) is expanded
        if "secretKeyRef" not in one.get("valueFrom", {}):
            value = one.get("value", "headrace-clicks-0")
            given[one["name"]] = re.sub(r"\$\((\w+)\)", lambda name: given[name[1]], value)
    assert load(overrides={"observe": {"advertise": given["HEADRACE_OBSERVE__ADVERTISE"]}})
    path = container["livenessProbe"]["httpGet"]["path"]
    code = f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{PORT}{path}', timeout=2)"
    environment = image | dict(line.split("=", 1) for line in shared) | given
    return container["args"], environment, ["-c", code], float(pod["terminationGracePeriodSeconds"])


def yaml_of(path: str) -> list[dict[str, Any]]:
    return [part for part in yaml.safe_load_all((DEPLOY / "kustomize" / path).read_text()) if part]


STARTED = {
    "compose worker-1": lambda: of_compose("worker-1"),
    "compose worker-2": lambda: of_compose("worker-2"),
    "kubernetes clicks": of_kubernetes,
}


@pytest.mark.parametrize(
    ("which", "lane"),
    [
        pytest.param("compose worker-1", "embedded", marks=pytest.mark.embedded),
        pytest.param("compose worker-2", "embedded", marks=pytest.mark.embedded),
        pytest.param(
            "kubernetes clicks", "kafka", marks=pytest.mark.kafka
        ),  # a static member: Tansu has none
    ],
)
def test_it_starts_answers_its_probes_and_ends_in_time(
    which: str, lane: str, request: pytest.FixtureRequest, topic_prefix: str, tmp_path: Path
) -> None:
    bootstrap = request.getfixturevalue(f"{lane}_broker").bootstrap
    command, environment, check, grace_s = STARTED[which]()
    assert grace_s > load().worker.grace_s  # the worker ends by itself
    port = free_ports(1)[0]
    inside = {name: value for name, value in environment.items() if not name.endswith("SNAPSHOTS")}
    inside |= {
        "HEADRACE_KAFKA__BOOTSTRAP": bootstrap,  # other names than in the cluster, and a free port
        "HEADRACE_KAFKA__TOPIC_PREFIX": topic_prefix,
        "HEADRACE_KAFKA__GROUP": topic_prefix,
        "HEADRACE_TOPICS__REPLICATION": "1",
        "HEADRACE_OBSERVE__PORT": str(port),
        "HEADRACE_STATE__SNAPSHOTS": str(tmp_path / "snapshots"),
    }
    assert environment.keys() >= {"HEADRACE_KAFKA__BOOTSTRAP", "HEADRACE_STATE__SNAPSHOTS"}
    assert environment["HEADRACE_OBSERVE__PORT"] == str(PORT) and str(PORT) in check[1]
    done = run_command(["topics", "apply"], tmp_path, environment=inside)
    assert done.returncode == 0, done.stderr
    plain = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    plain |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    probe = [sys.executable, *(part.replace(str(PORT), str(port)) for part in check)]
    ready = [probe[0], "-c", probe[2].replace("/healthz", "/readyz")]
    assert ready != probe
    with (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "streams", *command],
            cwd=tmp_path,
            env=plain | inside,
            stdout=log,
            stderr=log,
        )
    try:
        for question in (probe, ready):
            until_s = time.monotonic() + 60
            while subprocess.run(question, check=False, capture_output=True, timeout=30).returncode:
                assert worker.poll() is None and time.monotonic() < until_s, (tmp_path / "log").read_text()
                time.sleep(0.2)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(grace_s) == 0, (tmp_path / "log").read_text()
    finally:
        worker.kill()
        worker.wait()


def test_every_container_is_locked_down() -> None:
    """No root, no way to more rights, nothing written but what is mounted."""
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    ours = {name: one for name, one in services.items() if one.get("image", "").startswith("headrace:")}
    assert {"topics", "worker-1", "worker-2", "media"} <= ours.keys()
    for one in ours.values():
        assert one["read_only"] and one["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in one["security_opt"]
    for name, one in services.items():
        assert name in ours or re.search(r":[\w.-]+@sha256:[0-9a-f]{64}$", one["image"]), one["image"]
        assert all(port.startswith("127.0.0.1:") for port in one.get("ports", ()))
    stages = (DEPLOY / "Dockerfile").read_text().split("\nFROM ")
    targets = {stage.split()[2]: stage for stage in stages[1:] if " AS " in stage.partition("\n")[0]}
    for target in ("cpu", "gpu"):
        assert targets[target].rstrip().endswith("USER 10001:10001")


@pytest.mark.parametrize("path", ["base/clicks.yaml", "base/media.yaml", "overlays/small/topics.yaml"])
def test_every_pod_is_locked_down(path: str) -> None:
    pods = [part["spec"]["template"]["spec"] for part in yaml_of(path) if "template" in part["spec"]]
    assert pods
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
        for container in pod["containers"]:
            rights = container["securityContext"]
            assert rights["readOnlyRootFilesystem"] and not rights["allowPrivilegeEscalation"]
            assert rights["capabilities"]["drop"] == ["ALL"] and container["resources"]["limits"]["memory"]


@pytest.mark.tool("kubectl")
@pytest.mark.parametrize("overlay", ["small", "production"])
def test_an_overlay_is_built_and_names_what_it_uses(overlay: str) -> None:
    folder = DEPLOY / "kustomize" / "overlays" / overlay
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    parts = [part for part in yaml.safe_load_all(done.stdout) if part]
    names = {(part["kind"], part["metadata"]["name"]) for part in parts}
    assert len(names) == len(parts)
    (budget,) = [
        part
        for part in parts
        if part["metadata"]["name"] == "headrace-clicks" and part["kind"] == "PodDisruptionBudget"
    ]
    assert budget["spec"]["selector"]["matchLabels"] == {"app.kubernetes.io/name": "headrace-clicks"}
    for part in parts:
        pod = part.get("spec", {}).get("template", {}).get("spec")
        for container in (pod or {}).get("containers", ()):
            assert container["image"].startswith("headrace:")
            for source in container.get("envFrom", ()):
                assert ("ConfigMap", source["configMapRef"]["name"]) in names
