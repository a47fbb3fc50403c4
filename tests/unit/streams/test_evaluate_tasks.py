"""`headrace evaluate TASK FILE`: figures of real answers, lists of both forms, and mistakes in them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from streams.cli.run import run
from streams.demo.feed import DATA

pytestmark = pytest.mark.models

OPINIONS = "A wonderful, moving film.\t1\nDull, long and badly acted.\t0\nI love every minute of it.\t0\n"


def evaluated(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run(["evaluate", *arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_sentiment_with_names_a_foreign_text_and_one_that_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = tmp_path / "dev.tsv"
    listed.write_text(OPINIONS + "So schlecht war der Film noch nie\t0\n" + "x" * 300_000 + "\t1\n", "utf-8")

    found = evaluated(capsys, "sentiment", str(listed), "--names", "0=negative,1=positive", "--wrong")

    assert found["inputs"] == 5 and found["unsupported_language"] == 1
    assert found["figures"]["accuracy"]["value"] == pytest.approx(2 / 5)
    assert [(one["line"], one["given"]) for one in found["wrong"]] == [
        (3, "positive"),
        (4, "unsupported_language"),
        (5, ""),
    ]
    assert [(one["line"], one["reason"]) for one in found["failed"]] == [(5, "too_large")]
    assert found["model"]["name"] == "minilm-sentiment-sst2"


def test_pictures_are_named_relative_to_their_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copyfile(DATA / "pictures" / "cat.jpg", tmp_path / "cat.jpg")
    (tmp_path / "list.jsonl").write_text(
        '{"path": "cat.jpg", "label": "Tabby cat"}\n{"path": "cat.jpg", "label": "kite"}\n'
    )

    found = evaluated(capsys, "tag", str(tmp_path / "list.jsonl"))

    assert found["figures"]["top5"]["value"] == 0.5
    assert found["figures"]["inputs"] == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "holds no line"),
        ("no tab here\n", "line 1: neither JSON nor"),
        (OPINIONS + '{"text": "a"}\n', "line 4: expected an object"),
        (OPINIONS + '{"text": "a", "path": "b", "label": "c"}\n', "line 4: expected an object"),
        (b"\xff\xfe\t1\n", "line 1: not UTF-8"),
        (b'\n\n{"text":\n', "line 3: "),
    ],
)
def test_a_malformed_list_is_one_line_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | bytes, said: str
) -> None:
    listed = tmp_path / "list"
    listed.write_bytes(content if isinstance(content, bytes) else content.encode())
    from streams.errors import UserMistake
    from streams.evaluate.references import read_references

    with pytest.raises(UserMistake, match=said):
        read_references(listed, of_files=False)


def test_a_missing_list_or_wrong_names_are_refused_before_a_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", "sentiment", str(tmp_path / "none.tsv")]) == 2
    assert "there is no file" in capsys.readouterr().err
    (tmp_path / "dev.tsv").write_text(OPINIONS)
    assert run(["evaluate", "sentiment", str(tmp_path / "dev.tsv"), "--names", "0"]) == 2
    assert "--names" in capsys.readouterr().err
