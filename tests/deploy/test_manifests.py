"""Image, compose and Kubernetes manifests before the validators that their users run; each sees a fault put in."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lanes import tool_path

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = ("--builtin-schema", "vendor.compose-spec")
OURS = ("ScaledObject", "PodMonitor", "PrometheusRule", "KafkaTopic", "KafkaUser")
"""Kinds that Kubernetes itself has no schema of."""


def done(tool: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    program = tool_path(tool)
    assert program is not None
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=False, timeout=120, env=environment
    )


@pytest.mark.tool("hadolint")
def test_the_dockerfile(tmp_path: Path) -> None:
    found = done("hadolint", str(DEPLOY / "Dockerfile"))
    assert found.returncode == 0, found.stdout + found.stderr
    broken = tmp_path / "Dockerfile"
    broken.write_text("FROM debian:latest\nRUN cd /tmp && apt-get install curl\n", encoding="utf-8")
    assert done("hadolint", str(broken)).returncode != 0


@pytest.mark.tool("check-jsonschema")
def test_compose(tmp_path: Path) -> None:
    found = done("check-jsonschema", *COMPOSE, str(DEPLOY / "compose.yaml"))
    assert found.returncode == 0, found.stdout + found.stderr
    broken = tmp_path / "compose.yaml"
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    assert "healthcheck:" in text
    broken.write_text(text.replace("healthcheck:", "healtcheck:"), encoding="utf-8")
    assert done("check-jsonschema", *COMPOSE, str(broken)).returncode != 0


@pytest.mark.tool("kubectl")
@pytest.mark.tool("kubernetes-validate")
@pytest.mark.parametrize("overlay", ["small", "production"])
def test_every_overlay_is_what_kubernetes_takes(overlay: str, tmp_path: Path) -> None:
    built = done("kubectl", "kustomize", str(DEPLOY / "kustomize/overlays" / overlay))
    assert built.returncode == 0, built.stderr
    file = tmp_path / "built.yaml"
    file.write_text(built.stdout, encoding="utf-8")
    found = done("kubernetes-validate", "--strict", str(file))
    said = found.stdout + found.stderr
    assert found.returncode == 0, said
    assert said.count(" passed for resource ") >= 5
    unknown = [line for line in said.splitlines() if line.startswith("WARN")]
    assert all(any(f"kind {kind} " in line for kind in OURS) for line in unknown), unknown

    file.write_text(
        built.stdout.replace("terminationGracePeriodSeconds", "terminationGracePeriod"), encoding="utf-8"
    )
    assert done("kubernetes-validate", "--strict", str(file)).returncode != 0
