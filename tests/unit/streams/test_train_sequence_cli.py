"""`headrace train sequence` from a file to a folder, and the rows of `evaluate clicks --model`."""

import json
from pathlib import Path
from typing import Any

import pytest

from models.sequence import folder
from streams.cli.run import run


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Readers who go round in a circle of 15 items, in MovieLens's form; some within a second, some after days."""
    lines = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    for user in range(25):
        at = 1_000_000 + user
        for step in range(9):
            lines.append(f"{user}\tm{(user + step) % 15}\t{3 + step % 3}\t{at}")
            at += (0, 30, 200_000)[(user + step) % 3]
    path = tmp_path / "circle.inter"
    path.write_text("\n".join(lines) + "\n")
    return path


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run([*arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_from_a_file_to_rows(recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = ("train", "sequence", str(recorded), "--format", "movielens", "--rounds", "3")
    made = printed(capsys, *train, "--out", "model")
    assert made["items"] == 15
    assert made["data"]["events"] == {"train": 175, "validation": 25, "test": 25}
    test = made["scores"]["test"]
    assert test["asked"] == 25
    assert test["hr_at_10"] > 0.5
    assert sum(gap["asked"] for gap in test["hr_at_10_by_gap"].values()) == 25
    loaded = folder.read(tmp_path / "model")
    assert loaded.manifest.sha256 == made["sha256"]
    again = printed(capsys, *train, "--out", "again")
    assert again["sha256"] == made["sha256"]

    evaluate = ("evaluate", "clicks", str(recorded), "--format", "movielens", "--protocol", "leave-one-out")
    found = printed(capsys, *evaluate, "--layers", "counts,sequence,sequence-blend", "--model", "model")
    rows = {row["layer"]: row["hr_at_k"] for row in found["rows"]}
    assert list(rows) == ["counts", "sequence", "sequence-blend"]
    assert rows["sequence"] == pytest.approx(
        test["hr_at_10"], abs=1e-6
    )  # the same model through the serving code
    assert not [note for note in found.get("notes", []) if "trained" in note]


def test_text_names_gaps_and_a_split_by_time_is_said_where_it_leaks(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = (
        "train",
        "sequence",
        str(recorded),
        "--format",
        "movielens",
        "--rounds",
        "1",
        "--kind",
        "attention",
    )
    assert run([*train, "--split", "none", "--out", "model"]) == 0
    shown = capsys.readouterr().out
    assert "validation" in shown
    assert "test" not in shown
    assert run([*train, "--out", "other"]) == 0
    shown = capsys.readouterr().out
    assert "same second" in shown
    assert "over 1 day" in shown
    evaluate = ("evaluate", "clicks", str(recorded), "--format", "movielens", "--layers", "sequence")
    assert run([*evaluate, "--protocol", "leave-one-out", "--model", "model"]) == 0
    assert "may have seen what is scored" in capsys.readouterr().out
    assert run([*evaluate, "--protocol", "all", "--model", "model"]) == 0
    assert "was trained on events later than the first one scored" in capsys.readouterr().out


def test_everything_is_trained_on_where_nothing_is_to_choose(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ("train", "sequence", str(recorded), "--format", "movielens", "--split", "all")
    made = printed(capsys, *train, "--out", "model")
    assert made["data"]["events"] == {"train": 225, "validation": 0, "test": 0} and made["scores"] == {}
    told = {name: made["training"][name] for name in ("trained_rounds", "best_round", "dropout")}
    assert told == {"trained_rounds": 14, "best_round": 14, "dropout": 0.5}
    made = printed(capsys, *train, "--out", "other", "--shuffle", "4")["training"]
    assert (made["trained_rounds"], made["shuffle"]) == (28, 4)  # never the same twice
    made = printed(capsys, *train, "--out", "other", "--rounds", "2", "--dropout", "0")
    assert (made["training"]["trained_rounds"], made["training"]["dropout"]) == (2, 0)
    assert run([*train, "--out", "other", "--rounds", "2"]) == 0
    assert "round 2 of 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--kind", "lstm"), 2, "--kind lstm"),
        (("--split", "random"), 2, "--split random"),
        (("--format", "csv"), 2, "--format csv"),
        (("--limit", "1"), 2, "too few"),
        (("--limit", "20"), 2, "too few events"),
    ],
)
def test_mistakes_are_named(
    options: tuple[str, ...], code: int, said: str, recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["train", "sequence", str(recorded), "--format", "movielens", "--out", "model", *options]
    assert run(given) == code
    assert said in capsys.readouterr().err
    assert not Path("model").exists()


def test_rows_of_a_model_need_one_that_is_whole(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate = ("evaluate", "clicks", str(recorded), "--format", "movielens", "--layers", "sequence")
    assert run([*evaluate]) == 2
    assert "--model DIR" in capsys.readouterr().err
    assert run([*evaluate, "--model", "nowhere"]) == 3
    assert "manifest.json cannot be read" in capsys.readouterr().err
