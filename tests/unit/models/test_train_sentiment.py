"""The recipe runs, repeats itself, and writes what the task loads. How good it is: see the model card."""

from pathlib import Path

import pytest
import torch

from models.errors import BadInput
from models.inference.weights import load_checked
from models.tasks import sentiment
from models.tasks.sentiment import Sentiment
from models.train.sentiment import Progress, bootstrap_ci95, calibration_error, read_tsv, train_sentiment
from models.types import LoadOptions

pytestmark = pytest.mark.models

WORDS = {"wonderful": 1, "awful": 0, "great": 1, "terrible": 0, "lovely": 1, "boring": 0}
LINES = [
    f"{word} {thing}\t{label}" for thing in ("day", "film", "song", "meal") for word, label in WORDS.items()
]


def test_the_recipe_repeats_itself_and_the_task_loads_what_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "small.tsv"
    data.write_text("\n".join(LINES) + "\n")
    told: list[Progress] = []
    before = torch.random.get_rng_state()
    first = train_sentiment(data, data, tmp_path / "first", revision="t", seed=3, progress=told.append)
    second = train_sentiment(data, data, tmp_path / "second", revision="t", seed=3)
    assert torch.equal(before, torch.random.get_rng_state())  # the caller's randomness is its own
    assert first.manifest.sha256 == second.manifest.sha256
    assert first.steps == 3
    assert [line.epoch for line in told if line.dev_accuracy is not None] == [1, 2, 3]
    assert first.dev_ci95[0] <= first.dev_accuracy <= first.dev_ci95[1]
    _, info = load_checked(first.folder)
    monkeypatch.setattr(sentiment, "WEIGHTS", first.folder)
    assert Sentiment.load(LoadOptions(cache=tmp_path)).model.sha256 == info.sha256
    other = train_sentiment(data, data, tmp_path / "other", revision="t", seed=4)
    assert other.manifest.sha256 != first.manifest.sha256


@pytest.mark.parametrize("line", ["no label", "text\t2", "\t1", "a\tb\t1", "  \t0"])
def test_a_malformed_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "bad.tsv"
    path.write_text(f"fine\t1\n{line}\n")
    with pytest.raises(BadInput, match="line 2"):
        read_tsv(path)


def test_a_sure_and_right_network_is_calibrated_and_a_sure_and_wrong_one_is_not() -> None:
    logits = torch.tensor([[9.0, -9.0], [-9.0, 9.0]])
    assert calibration_error(logits, torch.tensor([0, 1])) == pytest.approx(0.0, abs=1e-3)
    assert calibration_error(logits, torch.tensor([1, 0])) == pytest.approx(1.0, abs=1e-3)


def test_the_interval_holds_the_mean_and_narrows_with_more_sentences() -> None:
    right = torch.arange(100).numpy() % 10 != 0
    low, high = bootstrap_ci95(right, seed=1)
    assert low < 0.9 < high
    assert high - low == pytest.approx(2 * 1.96 * 0.03, abs=0.02)  # sqrt(p (1 - p) / N) = 0.03
