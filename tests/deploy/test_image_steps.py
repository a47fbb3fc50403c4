"""What the Dockerfile does, as far as that needs no container: its context is enough for its wheel, the wheel is whole,
and what the image starts is in it. Read from the file itself, so that a step that changes is run as it then stands."""

import fnmatch
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
IGNORED = (ROOT / "deploy/Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()


def stage(name: str) -> list[str]:
    """The lines of a stage."""
    found = re.search(rf"^FROM \S+ AS {name}\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
    assert found is not None, name
    return [line.strip() for line in found[1].splitlines() if line.strip() and not line.startswith("#")]


def copied(lines: list[str]) -> list[tuple[list[str], str]]:
    """Sources and target of each COPY from the context."""
    parts = [shlex.split(line)[1:] for line in lines if line.startswith("COPY ") and "--from" not in line]
    return [(sources, target) for *sources, target in parts]


def in_context(source: str) -> bool:
    """Whether .dockerignore lets a path in: everything is out but for what is named."""
    let_in = [line[1:] for line in IGNORED if line.startswith("!")]
    return any(source == one or source.startswith(f"{one}/") for one in let_in)


def context(lines: list[str], folder: Path) -> None:
    """What the COPY lines of a stage bring."""
    out = [line.removeprefix("**/") for line in IGNORED if line.startswith("**/")]
    for sources, target in copied(lines):
        for source in sources:
            assert in_context(source), f"{source} is kept out by Dockerfile.dockerignore"
            path, into = ROOT / source, folder / target
            if path.is_dir():
                shutil.copytree(
                    path,
                    into,
                    ignore=lambda _, names: [n for n in names if any(fnmatch.fnmatch(n, o) for o in out)],
                )
            else:
                into = into / path.name if target.endswith("/") else into
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, into)


def test_the_libraries_stages_have_the_files_they_install_from(tmp_path: Path) -> None:
    context(stage("libraries"), tmp_path)
    declared = re.findall(r"^([\w-]+) = \[$", (tmp_path / "pyproject.toml").read_text(), re.MULTILINE)
    named = re.findall(r"EXTRAS=([\w,-]+)", DOCKERFILE)
    assert len(named) == 2  # the comment's, and the default
    assert all(set(extras.split(",")) <= set(declared) for extras in named)
    for name in ("libraries-cpu", "libraries-gpu"):
        (install,) = [line for line in stage(name) if line.startswith("RUN ")]
        for file in re.findall(r"-[cr] (\S+)", install):
            assert (tmp_path / file).is_file(), file
        assert "ARG EXTRAS" in stage(name) and '".[${EXTRAS}]"' in install


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made by the stage's own command, in its own context; without the isolation that would ask an index."""
    folder = tmp_path_factory.mktemp("image")
    lines = stage("wheel")
    context(lines, folder)
    (run,) = [line.removeprefix("RUN ") for line in lines if line.startswith("RUN ")]
    command = run.replace(
        "pip wheel", f"{shlex.quote(sys.executable)} -m pip wheel --quiet --no-build-isolation"
    )
    command = command.replace("--wheel-dir /wheels", "--wheel-dir wheels")
    assert command.count("--no-build-isolation") == 1 and command.count("--wheel-dir wheels") == 1
    made = subprocess.run(
        ["sh", "-c", command], cwd=folder, capture_output=True, text=True, timeout=380, check=False
    )
    assert made.returncode == 0, made.stderr
    (found,) = (folder / "wheels").glob("headrace-*.whl")
    return found


def test_the_wheel_holds_every_file_of_ours(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    listed = subprocess.run(
        ["git", "ls-files", "streams", "models"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    assert len(listed) > 300
    assert sorted(set(filter(None, listed)) - held) == []


def test_what_the_image_starts_is_there_and_answers(wheel: Path, tmp_path: Path) -> None:
    (entry,) = [line for line in stage("runtime") if line.startswith("ENTRYPOINT ")]
    (command,) = [line for line in stage("runtime") if line.startswith("CMD ")]
    assert (entry, command) == ('ENTRYPOINT ["headrace"]', 'CMD ["worker"]')
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
        (points,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
    assert "headrace = streams.__main__:main" in (tmp_path / points).read_text()
    variables = dict(
        re.findall(r"(\w+)=(\S+)", " ".join(line for line in stage("runtime") if line.startswith("ENV ")))
    )
    inside = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)}
    inside |= {name: value for name, value in variables.items() if name.startswith("HEADRACE_")}
    started = [sys.executable, "-c", "import streams.__main__ as m; m.main()"]
    for arguments, said in (
        (["--version"], "headrace "),
        (["config", "show"], "0.0.0.0"),
        (["worker", "--help"], "worker"),
    ):
        done = subprocess.run(
            [*started, *arguments],
            cwd=tmp_path,
            env=inside,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0 and said in done.stdout, done.stderr
