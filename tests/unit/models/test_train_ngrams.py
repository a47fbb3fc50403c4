"""A classifier of characters, trained on made-up reviews, read back as a task reads it, from the command line."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from models.errors import BadInput
from models.networks.ngrams import PLACES, READ_CHARACTERS, NgramClassifier, places
from models.tasks.sentiment import Sentiment
from models.train.ngrams import train_ngrams
from models.types import LoadOptions, Payload
from streams.cli.context import Given
from streams.cli.train import app

THINGS, GOOD, BAD = "房间菜书车酒店电影服务", ("很好", "满意", "喜欢"), ("很差", "失望", "糟糕")


def reviews(tmp_path: Path) -> tuple[Path, Path]:
    """200 of each; a tenth says the opposite of what it stands under, as in real ones."""
    rng = random.Random(5)
    paths = []
    for name, own, other in (("neg", BAD, GOOD), ("pos", GOOD, BAD)):
        lines = {
            "".join(rng.choices(THINGS, k=6)) + rng.choice(own if rng.random() > 0.1 else other)
            for _ in range(200)
        }
        path = tmp_path / f"{name}.txt"
        path.write_text("\n".join(sorted(lines)) + "\n\n", "utf-8")
        paths.append(path)
    return paths[0], paths[1]


def texts(*paths: Path) -> list[list[str]]:
    return [path.read_text("utf-8").splitlines() for path in paths]


def test_places_are_those_of_runs_of_one_and_two_whatever_the_blanks() -> None:
    assert len(places("很好")) == 3
    assert places("很 好\n").tolist() == places("很好").tolist() == sorted(set(places("很好").tolist()))
    assert set(places("很好很好").tolist()) >= set(places("很好").tolist())
    assert len(places("")) == 0 and places("好" * 10**6).max() < PLACES
    assert len(places("".join(map(chr, range(0x4E00, 0x4E00 + 5000))))) <= 2 * READ_CHARACTERS


def test_the_logit_is_a_sum_over_the_root_of_the_count() -> None:
    weights = np.zeros(PLACES, np.float32)
    weights[places("好")] = 2.0
    classifier = NgramClassifier(weights, -1.0)
    assert classifier.score("好") == pytest.approx(1 / (1 + np.exp(-1.0)))
    assert classifier.score("很好") == pytest.approx(1 / (1 + np.exp(1 - 2 / 3**0.5)))
    assert classifier.score("") == pytest.approx(1 / (1 + np.exp(1.0)))


def test_it_learns_and_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    negative, positive = reviews(tmp_path)
    made = [
        train_ngrams(*texts(negative, positive), tmp_path / out, name="zh", revision="1", source="made up")
        for out in ("a", "b")
    ]
    assert made[0].manifest.sha256 == made[1].manifest.sha256
    assert 0.7 <= made[0].test_ci95[0] <= made[0].test_accuracy <= 1.0
    assert sum(made[0].texts) == sum(len(set(p.read_text("utf-8").split())) for p in (negative, positive))


@pytest.mark.models
def test_the_command_makes_weights_that_the_task_loads(tmp_path: Path) -> None:
    negative, positive = reviews(tmp_path)
    out = tmp_path / "mine"
    ran = CliRunner().invoke(
        app, ["characters", str(negative), str(positive), "--out", str(out), "--json"], obj=Given()
    )
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["test_accuracy"] > 0.7
    task = Sentiment.load(LoadOptions(cache=tmp_path, options={"chinese": str(out)}))
    for text, value in (("这家酒店很差", "negative"), ("这家酒店很好", "positive")):
        prepared = task.prepare(Payload("text/plain", text.encode()))
        finding = task.finish(prepared, [])
        assert finding.findings[0].value == value
        assert finding.findings[0].model is not None and finding.findings[0].model.revision == "own-1"


def test_too_few_texts_are_refused(tmp_path: Path) -> None:
    negative, positive = reviews(tmp_path)
    negative.write_text("差\n", "utf-8")
    with pytest.raises(BadInput, match="fewer than 20"):
        train_ngrams(*texts(negative, positive), tmp_path / "out", name="zh", revision="1", source="made up")
