"""`headrace label` on files: what is read, what is passed over, and the number format, which is the worker's."""

import json
import shutil
from pathlib import Path

import pytest

from streams.cli.run import run
from streams.demo.feed import DATA

pytestmark = pytest.mark.models


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copyfile(DATA / "pictures" / "cat.jpg", tmp_path / "cat.jpg")
    (tmp_path / "note.txt").write_text("a wonderful, generous concert")
    return tmp_path


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_labels_are_made_in_the_workers_number_format(
    folder: Path, dtype: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The format moves answers: float32 and bfloat16 heard different words on real recordings."""
    line = ["--set", f"media.dtype={dtype}", "label", "sentiment", str(folder / "note.txt"), "--json"]

    assert run(line) == 0
    assert json.loads(capsys.readouterr().out)["model"]["dtype"] == dtype


def test_a_folder_may_hold_other_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["label", "sentiment", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert "note.txt: sentiment positive" in out
    assert "passed over a file that sentiment does not read: cat.jpg" in err


def test_a_file_that_was_named_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["label", "sentiment", str(folder / "cat.jpg")]) == 1
    assert "unsupported: this task does not read image/jpeg" in capsys.readouterr().err


def test_a_folder_with_nothing_for_the_task_is_exit_code_3(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "cat.jpg").unlink()

    assert run(["label", "tag", str(folder)]) == 3
    assert "nothing for tag" in capsys.readouterr().err
