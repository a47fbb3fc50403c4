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


def test_entities_are_right_where_both_ends_and_the_kind_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "Angela Merkel met Emmanuel Macron in Berlin."
    rows = [
        {"text": text, "label": [[0, 13, "PER"], [18, 33, "PER"], [37, 43, "PER"]]},  # Berlin is a place
        {"text": "Nothing happened here.", "label": []},
        {"text": text, "label": [[0, 6, "PER"], [37, 43, "place"]]},  # too short; right
    ]
    listed = tmp_path / "news.jsonl"
    listed.write_text("".join(json.dumps(row) + "\n" for row in rows))

    found = evaluated(capsys, "entities", str(listed), "--names", "PER=person", "--wrong")

    figures = found["figures"]
    assert (figures["references"], figures["given"], figures["inputs"]) == (5, 6, 3)
    assert figures["precision"]["value"] == pytest.approx(3 / 6)
    assert figures["recall"]["value"] == pytest.approx(3 / 5)
    assert figures["f1"]["value"] == pytest.approx(6 / 11)
    assert (
        figures["f1"]["low"] <= 6 / 11 <= figures["f1"]["high"]
        and figures["f1"]["low"] < figures["f1"]["high"]
    )
    kinds = {one["name"]: (one["references"], one["precision"], one["recall"]) for one in figures["kinds"]}
    assert kinds == {"person": (4, pytest.approx(2 / 4), 2 / 4), "place": (1, pytest.approx(1 / 2), 1.0)}
    assert [one["line"] for one in found["wrong"]] == [1, 3]
    assert found["wrong"][0]["right"] == "0-13 person, 18-33 person, 37-43 person"
    assert run(["evaluate", "entities", str(listed)]) == 0
    assert "F1 0.1818" in capsys.readouterr().out  # PER is not person without --names


def test_labels_must_be_of_the_kind_that_the_task_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = tmp_path / "list.jsonl"
    listed.write_text('{"text": "Mary left.", "label": [[0, 4, "person"]]}\n')
    assert run(["evaluate", "sentiment", str(listed)]) == 2
    assert "line 1: label is not a word or text, as sentiment needs" in capsys.readouterr().err
    listed.write_text('{"text": "Mary left.", "label": "person"}\n')
    assert run(["evaluate", "entities", str(listed)]) == 2
    assert "label is not a list of [start, end, kind]" in capsys.readouterr().err
    listed.write_text('{"text": "Mary left.", "label": [[4, 0, "person"]]}\n')
    assert run(["evaluate", "entities", str(listed)]) == 2
    assert "line 1: expected an object" in capsys.readouterr().err


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
