"""checkov's policies over the image and what Kubernetes is given, as each overlay builds it; and it sees a fault."""

import subprocess
from pathlib import Path

import pytest

from lanes import tool_path

DEPLOY = Path(__file__).parents[2] / "deploy"


def judged(file: Path, framework: str) -> "subprocess.CompletedProcess[str]":
    program = tool_path("checkov")
    assert program is not None
    return subprocess.run(
        [program, "--config-file", str(DEPLOY / "checkov.yaml"), "--framework", framework, "-f", file.name],
        cwd=file.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )


@pytest.mark.tool("checkov")
def test_the_image() -> None:
    found = judged(DEPLOY / "Dockerfile", "dockerfile")
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.tool("checkov")
@pytest.mark.tool("kubectl")
@pytest.mark.parametrize("overlay", ["small", "production"])
def test_an_overlay(overlay: str, tmp_path: Path) -> None:
    built = subprocess.run(
        ["kubectl", "kustomize", str(DEPLOY / "kustomize/overlays" / overlay)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    file = tmp_path / "built.yaml"
    file.write_text(built, encoding="utf-8")
    found = judged(file, "kubernetes")
    assert found.returncode == 0, found.stdout + found.stderr

    if overlay == "small":
        open_root = built.replace("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false")
        assert open_root != built
        file.write_text(open_root, encoding="utf-8")
        found = judged(file, "kubernetes")
        assert found.returncode != 0 and "CKV_K8S_22" in found.stdout
